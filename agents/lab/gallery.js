"use strict";
const runs = JSON.parse(document.getElementById("runs").textContent);
const columns = [["run", 0], ["env", 0], ["algo", 0], ["seed", 1], ["steps", 1], ["best", 1], ["final", 1], ["state", 0], ["begun", 0]];
const colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9"];
const make = (tag, parent, text, kind) => {
  const made = parent.appendChild(document.createElement(tag));
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};
const said = (value) => typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: 2 }) : value ?? "";
let sorted = "begun", falling = true, chosen = [];

function order(name) {
  falling = sorted === name ? !falling : columns.find(([one]) => one === name)[1] === 1;
  sorted = name;
  show();
}

function choose(run) {
  chosen = chosen.includes(run) ? chosen.filter((one) => one !== run) : [...chosen, run];
  show(run);
}

function show(focus) {
  const words = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = runs.filter((run) => words.every((word) => columns.some(([name]) => String(run[name] ?? "").toLowerCase().includes(word))));
  found.sort((a, b) => {
    const [one, two] = [a[sorted], b[sorted]];
    if (one === two) return 0;
    if (one === null || two === null) return one === null ? 1 : -1;
    return (one < two ? -1 : 1) * (falling ? -1 : 1);
  });
  const head = document.getElementById("head"), rows = document.getElementById("rows");
  head.replaceChildren();
  for (const [name, number] of columns) {
    const cell = make("th", head, undefined, number ? "n" : "");
    cell.setAttribute("aria-sort", name === sorted ? (falling ? "descending" : "ascending") : "none");
    make("button", cell, name + (name === sorted ? (falling ? " ↓" : " ↑") : "")).onclick = () => order(name);
  }
  rows.replaceChildren();
  for (const run of found) {
    const row = make("tr", rows, undefined, chosen.includes(run) ? "open" : "");
    row.tabIndex = 0;
    for (const [name, number] of columns) make("td", row, said(run[name]), number ? "n" : "");
    row.onclick = () => choose(run);
    if (run === focus) row.focus();
  }
  document.getElementById("title").textContent = `Runs: ${found.length} of ${runs.length}`;
  draw();
  films();
}

function draw() {
  const chart = document.getElementById("chart"), shapes = "http://www.w3.org/2000/svg";
  chart.replaceChildren();
  const drawn = chosen.filter((run) => run.curve.steps.length);
  const values = drawn.flatMap((run) => run.curve.values), last = Math.max(1, ...drawn.flatMap((run) => run.curve.steps));
  const low = Math.min(...values), high = Math.max(...values);
  const legend = document.getElementById("legend");
  legend.textContent = drawn.length ? `0 to ${said(last)} steps, mean return ${said(low)} to ${said(high)}: ` : "Choose runs to compare their evaluations: click, or arrow keys and space.";
  chart.style.display = drawn.length ? "" : "none";
  drawn.forEach((run, i) => {
    const line = chart.appendChild(document.createElementNS(shapes, "polyline")), colour = colours[i % colours.length];
    const y = (value) => high > low ? 290 - 280 * (value - low) / (high - low) : 150;
    line.setAttribute("points", run.curve.steps.map((step, k) => `${1000 * step / last},${y(run.curve.values[k])}`).join(" "));
    line.setAttribute("fill", "none");
    line.setAttribute("stroke", colour);
    line.setAttribute("stroke-width", "2");
    line.setAttribute("vector-effect", "non-scaling-stroke");
    const name = make("span", legend, `${i ? " · " : ""}${run.run}`);
    name.style.color = colour;
  });
}

function films() {
  const place = document.getElementById("films");
  const wanted = chosen.filter((run) => run.video);
  if (wanted.map((run) => run.video).join() === place.dataset.shown) return;
  place.dataset.shown = wanted.map((run) => run.video).join();
  place.replaceChildren();
  for (const run of wanted) {
    const figure = make("figure", place), film = make("video", figure);
    Object.assign(film, { controls: true, loop: true, muted: true, src: run.video });
    make("figcaption", figure, run.run);
  }
}

document.getElementById("filter").oninput = () => show();
addEventListener("keydown", (event) => {
  const rows = [...document.querySelectorAll("tbody tr")], at = rows.indexOf(document.activeElement);
  if (event.key === "/" && document.activeElement.tagName !== "INPUT") {
    event.preventDefault();
    document.getElementById("filter").focus();
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    rows[Math.min(Math.max(at + (event.key === "ArrowDown" ? 1 : -1), 0), rows.length - 1)]?.focus();
  } else if ((event.key === " " || event.key === "Enter") && at >= 0) {
    event.preventDefault();
    rows[at].click();
  }
});
show();
