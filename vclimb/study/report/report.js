"use strict";
// Draws the charts, and sorts the table by a click on a heading. Without this script all figures are there as text.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const figures = [...document.querySelectorAll("[data-chart]")];
  const specs = figures.length ? read("chart-specs") : {};
  const datasets = figures.length ? read("chart-tables") : {};
  const drawn = new Set();
  const draw = (figure) => {
    if (drawn.has(figure)) return undefined;
    drawn.add(figure);
    const name = figure.dataset.chart;
    return vegaEmbed(figure, { ...specs[name], datasets }, {
      actions: { export: true, source: false, compiled: false, editor: false },
      ast: true, // interprets expressions: the page's policy forbids to compile them
      downloadFileName: name,
      renderer: "svg",
      scaleFactor: 2,
    }).then(() => { figure.style.minHeight = "0"; });
  };
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) draw(entry.target);
  });
  figures.forEach((figure) => observer.observe(figure));
  // Charts further down follow one by one, so that the page can be printed, and answers meanwhile.
  const drawNext = () => {
    const next = figures.find((figure) => !drawn.has(figure));
    if (next) draw(next).finally(() => setTimeout(drawNext));
    else document.body.dataset.charts = "drawn";
  };
  setTimeout(drawNext, 50);

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    table.querySelectorAll("thead th").forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const ascending = head.getAttribute("aria-sort") === "descending";
        table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        const key = (row) => row.cells[column].dataset.value;
        const rows = [...body.rows].sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          if (x === "" || y === "") return x === y ? 0 : x === "" ? 1 : -1; // what was not measured comes last
          const order = Number.isNaN(Number(x)) || Number.isNaN(Number(y)) ? x.localeCompare(y) : Number(x) - Number(y);
          return ascending ? order : -order;
        });
        body.append(...rows);
      });
    });
  }

  const show = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    document.querySelectorAll("tr.shown").forEach((row) => row.classList.remove("shown"));
    if (target.tagName === "TR") target.classList.add("shown");
    if (target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", show);
  show();
  addEventListener("beforeprint", () => document.querySelectorAll("details.print").forEach((entry) => { entry.open = true; }));
})();
