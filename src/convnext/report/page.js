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
  const copier = (title, text) => {
    const press = document.createElement("button");
    press.type = "button";
    press.className = "copy";
    press.textContent = title;
    press.addEventListener("click", async () => {
      press.textContent = (await copy(text)) ? "Copied" : "Select and copy";
      setTimeout(() => { press.textContent = title; }, 1600);
    });
    return press;
  };
  for (const row of document.querySelectorAll(".command")) row.append(copier("Copy", row.querySelector("code").textContent));
  for (const file of document.querySelectorAll(".exhibit .file")) file.after(copier("Copy name", file.dataset.copy));

  // Pictures: Escape closes an open one, arrows go to the next; the page stays where it was.
  const open = () => { const at = document.getElementById(location.hash.slice(1)); return at && at.matches(".exhibit") ? at : null; };
  const shown = [...document.querySelectorAll(".exhibit")];
  const go = (hash) => { location.replace(hash); };
  for (const link of document.querySelectorAll(".exhibit .zoom, .exhibit .close")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const at = scrollY;
      go(open() ? "#closed" : link.getAttribute("href"));
      scrollTo({ top: at, behavior: "instant" });
    });
  }
  addEventListener("keydown", (event) => {
    const at = open();
    if (!at) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") { const y = scrollY; go("#closed"); scrollTo({ top: y, behavior: "instant" }); }
    else if (step) { const next = shown[shown.indexOf(at) + step]; if (next) go("#" + next.id); } else return;
    event.preventDefault();
  });

  // Curves: the values of the epoch under the finger, in the legend.
  for (const chart of document.querySelectorAll(".chart[data-lines]")) {
    const lines = JSON.parse(chart.dataset.lines);
    const legend = chart.closest("figure").querySelector(".legend");
    const [at, ...items] = [legend.querySelector(".at"), ...legend.querySelectorAll("li:not(.at)")];
    const last = items.map((item) => item.querySelector("b").textContent);
    const places = new Map(lines.flatMap(([, , points]) => points.map(([epoch, x]) => [epoch, x])));
    const epochs = [...places.keys()].sort((a, b) => a - b);
    const make = (name, set) => {
      const made = document.createElementNS(chart.namespaceURI, name);
      for (const [key, value] of Object.entries(set)) made.setAttribute(key, value);
      return made;
    };
    let marks = [], now = null;
    const clear = () => { marks.forEach((mark) => mark.remove()); marks = []; };
    const show = (epoch) => {
      if (epoch === now) return;
      now = epoch;
      clear();
      const x = places.get(epoch), box = chart.viewBox.baseVal;
      marks.push(make("path", { class: "cross", d: `M${x} 24V${box.height - 42}` }));
      lines.forEach(([, kind, points], index) => {
        const point = points.find(([of]) => of === epoch);
        items[index].querySelector("b").textContent = point ? point[3] : "\u2013";
        if (point) marks.push(make("circle", { class: `near ${kind}`, cx: point[1], cy: point[2], r: 5 }));
      });
      chart.append(...marks);
      at.textContent = `${chart.dataset.x || "Epoch"} ${epoch}`;
      at.hidden = false;
    };
    const rest = () => { clear(); now = null; at.hidden = true; items.forEach((item, index) => { item.querySelector("b").textContent = last[index]; }); };
    const follow = (event) => {
      const box = chart.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
      show(epochs.reduce((best, epoch) => (Math.abs(places.get(epoch) - x) < Math.abs(places.get(best) - x) ? epoch : best)));
    };
    chart.addEventListener("pointerdown", follow);
    chart.addEventListener("pointermove", follow);
    chart.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") rest(); });
    chart.tabIndex = 0;
    chart.addEventListener("blur", rest);
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const index = now === null ? (step > 0 ? 0 : epochs.length - 1) : epochs.indexOf(now) + step;
      show(epochs[Math.min(epochs.length - 1, Math.max(0, index))]);
    });
  }

  // The matrix: what a cell means, in words, for fingers too.
  for (const matrix of document.querySelectorAll(".mx")) {
    const said = matrix.querySelector(".mx-said");
    matrix.querySelector("svg").addEventListener("pointerover", (event) => {
      const cell = event.target.closest("g");
      if (cell) { said.hidden = false; said.textContent = cell.querySelector("title").textContent; }
    });
  }

  // Paper shows everything: folded parts open for printing.
  addEventListener("beforeprint", () => document.querySelectorAll("details:not(.long)").forEach((part) => { part.open = true; }));
})();
