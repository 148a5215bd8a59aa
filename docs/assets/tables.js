// Tables of numbers can be sorted: a click on a column's head, or Enter on it. Cells such as "82.1 (78.9 to 85.4)" sort
// by their first number, empty cells go last, and the interval is drawn softer. Wide tables scroll without a mouse.

const first = (cell) => {
  const found = cell.textContent.match(/-?\d+(\.\d+)?/);
  return found ? Number(found[0]) : null;
};

const counts = (table, column) => {
  const cells = [...table.tBodies[0].rows].map((row) => row.cells[column]?.textContent.trim()).filter(Boolean);
  return cells.length > 0 && cells.filter((text) => /^[-+]?\d/.test(text)).length >= cells.length * 0.8;
};

function sortable(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const columns = heads.map((head, column) => column > 0 && counts(table, column));
  if (!columns.includes(true)) return;
  heads.forEach((head, column) => {
    if (!head.textContent.trim() || (column > 0 && !columns[column])) return;
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending" && column > 0;
      const up = column > 0 ? !down : head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => (column > 0 ? first(row.cells[column]) : row.cells[column].textContent.trim());
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === null || y === null) return (x === null) - (y === null);
        return (column > 0 ? x - y : x.localeCompare(y)) * (up ? 1 : -1);
      });
      body.append(...rows);
    });
  });
}

function softened(cell) {
  const found = cell.textContent.match(/^([-\d.]+) (\(.*\))$/);
  if (!found || cell.children.length) return;
  const interval = document.createElement("small");
  interval.textContent = found[2];
  cell.replaceChildren(`${found[1]} `, interval);
}

function filtered(table) {
  const rows = [...table.tBodies[0].rows];
  const input = document.createElement("input");
  Object.assign(input, { type: "search", placeholder: `Filter ${rows.length} rows`, className: "filter" });
  input.setAttribute("aria-label", "Filter the rows of this table");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    rows.forEach((row) => (row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word))));
  });
  (table.closest(".md-typeset__scrollwrap") ?? table).before(input);
}

for (const table of document.querySelectorAll("article table:not([class])")) {
  if (!table.tHead || table.tBodies[0].rows.length < 4) continue;
  for (const row of table.tBodies[0].rows) [...row.cells].forEach(softened);
  sortable(table);
  if (table.tBodies[0].rows.length > 20) filtered(table);
}

// What is wider than the window is scrolled by the arrow keys as well.
const reachable = () => {
  for (const region of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset p:has(> img)")) {
    if (region.scrollWidth > region.clientWidth) region.tabIndex = 0;
    else region.removeAttribute("tabindex");
  }
};
addEventListener("load", reachable);
addEventListener("resize", reachable);
