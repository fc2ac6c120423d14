"""Report of a study: read run folders, arrange them, draw charts, and write the page and the tables."""
