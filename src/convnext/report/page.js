"use strict";
(() => {
  const root = document.documentElement;

  // Theme: automatic, light or dark; remembered where the browser allows it.
  const themes = ["auto", "light", "dark"];
  const remember = (name) => { try { localStorage.setItem("convnext-report-theme", name); } catch { /* private window */ } };
  const button = document.querySelector(".theme");
  const showTheme = () => { button.textContent = "Theme: " + (root.dataset.theme || "auto"); };
  button.hidden = false;
  showTheme();
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme || "auto") + 1) % themes.length];
    if (next === "auto") delete root.dataset.theme; else root.dataset.theme = next;
    remember(next);
    showTheme();
  });

  // Tables: a click on a column's title sorts by it, numbers from high to low first.
  for (const table of document.querySelectorAll("table.sortable")) {
    const titles = [...table.tHead.rows[0].cells];
    titles.forEach((title, column) => {
      const sorter = document.createElement("button");
      sorter.type = "button";
      sorter.append(...title.childNodes);
      title.append(sorter);
      sorter.addEventListener("click", () => {
        const key = (row) => row.cells[column].dataset.v;
        const numbers = "number" in title.dataset;
        const before = title.getAttribute("aria-sort");
        const rising = before ? before === "descending" : !numbers;
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => (rising ? 1 : -1) * (numbers ? key(a) - key(b) : key(a).localeCompare(key(b))));
        table.tBodies[0].append(...rows);
        titles.forEach((other) => other.removeAttribute("aria-sort"));
        title.setAttribute("aria-sort", rising ? "ascending" : "descending");
      });
    });
  }

  // Commands: a copy button each.
  const copy = async (text) => {
    try { await navigator.clipboard.writeText(text); return true; } catch { /* older browser, or not allowed on a file */ }
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  for (const row of document.querySelectorAll(".command")) {
    const press = document.createElement("button");
    press.type = "button";
    press.className = "copy";
    press.textContent = "Copy";
    press.addEventListener("click", async () => {
      press.textContent = (await copy(row.querySelector("code").textContent)) ? "Copied" : "Select and copy";
      setTimeout(() => { press.textContent = "Copy"; }, 1600);
    });
    row.append(press);
  }

  // Paper shows everything: folded parts open for printing.
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
})();
