"use strict";
// a heading sorts its column: numbers from the largest, words from A; what is not known stays at the end
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const body = table.tBodies[0];
      const read = (row) => row.cells[column].textContent.trim();
      const value = (text) => Number(text.replaceAll(",", ""));
      const known = (text) => text !== "" && text !== "–";
      const rows = [...body.rows];
      const numeric = rows.every((row) => !known(read(row)) || Number.isFinite(value(read(row))));
      const before = head.getAttribute("aria-sort");
      const up = before ? before === "descending" : !numeric;
      for (const each of heads) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      rows.sort((one, other) => {
        const [a, b] = [read(one), read(other)];
        if (known(a) !== known(b)) return known(a) ? -1 : 1;
        const order = numeric ? value(a) - value(b) : a.localeCompare(b);
        return up ? order : -order;
      });
      body.append(...rows);
    });
  });
}
addEventListener("beforeprint", () => { for (const each of document.querySelectorAll("details")) each.open = true; });
