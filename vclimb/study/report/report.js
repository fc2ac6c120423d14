"use strict";
// Hovering over a mark shows its run; a click on a heading sorts. Without this script all figures are there as well.
(() => {
  const tip = document.getElementById("tip");
  const hide = () => { tip.hidden = true; };
  const place = (x, y) => {
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${y + box.height + 24 > innerHeight ? Math.max(4, y - box.height - 12) : y + 16}px`;
  };
  for (const mark of document.querySelectorAll("svg .tip")) {
    const title = mark.querySelector("title");
    const text = title.textContent;
    title.remove(); // else the browser shows it as well
    mark.setAttribute("aria-label", text);
    mark.addEventListener("pointerenter", (event) => { tip.textContent = text; place(event.clientX, event.clientY); });
    mark.addEventListener("pointermove", (event) => place(event.clientX, event.clientY));
    mark.addEventListener("pointerleave", hide);
  }
  addEventListener("scroll", hide, { passive: true });

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
          if (x === "" || y === "") return x === y ? 0 : x === "" ? 1 : -1; // what wasn't measured comes last
          const order = Number.isNaN(Number(x)) || Number.isNaN(Number(y)) ? x.localeCompare(y) : Number(x) - Number(y);
          return ascending ? order : -order;
        });
        body.append(...rows);
      });
    });
  }

  const open = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    document.querySelectorAll("tr.shown").forEach((row) => row.classList.remove("shown"));
    if (target.tagName === "TR") target.classList.add("shown");
    if (target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", open);
  open();
  addEventListener("beforeprint", () => document.querySelectorAll("details.print").forEach((one) => { one.open = true; }));
})();
