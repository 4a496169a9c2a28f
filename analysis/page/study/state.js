// The filters: what is chosen, kept in the URL's fragment so that a view can be linked. In a group nothing chosen means everything.
const D = JSON.parse(document.getElementById("data").textContent);
const metricOf = Object.fromEntries(D.metrics.map((metric, i) => [metric.key, { ...metric, i }]));
const GROUPS = {
  study: { label: "Study", values: several(distinct(D.cells, studyOf)), name: (value) => value },
  engine: { label: "Engine", values: several(distinct(D.cells, (cell) => cell.system)), name: (value) => D.cells.find((cell) => cell.system === value).engine },
  gpu: { label: "GPU", values: several(distinct(D.cells, (cell) => cell.hardware)), name: (value) => D.cells.find((cell) => cell.hardware === value).gpu },
  model: { label: "Model", values: several(distinct(D.cells, (cell) => cell.model)), name: (value) => value.replaceAll("_", " ") },
  version: { label: "Version", values: several(distinct(D.cells, versionOf)), name: (value) => value },
  loop: { label: "Loop", values: several(distinct(D.cells, (cell) => cell.loop)), name: (value) => value },
  workload: { label: "Workload", values: distinct(D.cells, (cell) => cell.workload), name: (value) => value.replaceAll("_", " ") },
  rho: { label: D.cells.some((cell) => cell.rho !== null) ? "Load ρ" : "Load", values: distinct(D.cells, (cell) => loadOf(cell)).sort((a, b) => parseFloat(a) - parseFloat(b)), name: (value) => value },
  track: { label: "Track", values: Object.keys(D.tracks).filter((track) => D.simulators.some((sim) => sim.track === track)), name: (value) => value },
  simulator: { label: "Simulator", values: distinct(D.simulators, (sim) => sim.system), name: (value) => D.simulators.find((sim) => sim.system === value).name },
};
/** What cells can be told apart by in the table along an axis; those with one value only come last. */
const AXES = {
  gpu: { label: "GPU", of: (cell) => cell.gpu }, model: { label: "Model", of: (cell) => cell.model.replaceAll("_", " ") }, version: { label: "Engine version", of: (cell) => `${cell.engine} ${versionOf(cell)}` },
  loop: { label: "Loop", of: (cell) => cell.loop }, workload: { label: "Workload", of: (cell) => cell.workload.replaceAll("_", " ") },
};
const axisNames = Object.keys(AXES).sort((a, b) => (distinct(D.cells, AXES[a].of).length > 1 ? 0 : 1) - (distinct(D.cells, AXES[b].of).length > 1 ? 0 : 1));
const state = { metric: "ttft_p50", latency: "ttft", axis: axisNames[0], cell: null, ...Object.fromEntries(Object.keys(GROUPS).map((group) => [group, new Set()])) };
const listeners = [];

function distinct(rows, value) { return [...new Set(rows.map(value))]; }
function several(values) { return values.length > 1 ? values : []; } // of one there is nothing to choose
function studyOf(row) { return row.study ?? "no study"; }
function versionOf(cell) { return cell.version ?? "unknown"; }
function loadOf(cell) { return cell.rho !== null ? String(Number(cell.rho.toPrecision(3))) : cell.rate !== null ? `${Number(cell.rate.toPrecision(3))} req/s` : cell.concurrency !== null ? `${cell.concurrency} in flight` : "as recorded"; }
/** The load in a sentence: a share of the capacity goes by its letter. */
function loadWords(cell) { return cell.rho !== null ? `ρ ${loadOf(cell)}` : loadOf(cell); }
function passes(group, value) { return state[group].size === 0 || state[group].has(value); }
function chosenCells() {
  return D.cells.map((cell, i) => ({ ...cell, i })).filter((cell) => passes("study", studyOf(cell)) && passes("engine", cell.system) && passes("gpu", cell.hardware) && passes("model", cell.model) && passes("version", versionOf(cell)) && passes("loop", cell.loop) && passes("workload", cell.workload) && passes("rho", loadOf(cell)));
}
function chosenSimulators() {
  return D.simulators.map((sim, i) => ({ ...sim, i })).filter((sim) => passes("track", sim.track) && passes("simulator", sim.system));
}

/** The cell that the figures of one cell show: the chosen one if the filters let it through, else the first saturated one that they do. */
function focus() {
  const cells = chosenCells().filter((cell) => cell.repeats > 0);
  return cells.find((cell) => cell.cell === state.cell) || cells.find((cell) => cell.saturated) || cells[cells.length - 1] || null;
}

function readFragment() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [group, { values }] of Object.entries(GROUPS)) {
    state[group] = new Set((given.get(group) || "").split(",").filter((value) => values.includes(value)));
  }
  if (given.get("metric") in metricOf) state.metric = given.get("metric");
  if (given.get("axis") in AXES) state.axis = given.get("axis");
  if (D.latencies.includes(given.get("latency"))) state.latency = given.get("latency");
  state.cell = D.cells.some((cell) => cell.cell === given.get("cell")) ? given.get("cell") : null;
}

function writeFragment() {
  const parts = Object.keys(GROUPS).filter((group) => state[group].size).map((group) => [group, [...state[group]].join(",")]);
  if (state.metric !== "ttft_p50") parts.push(["metric", state.metric]);
  if (state.latency !== "ttft") parts.push(["latency", state.latency]);
  if (state.axis !== axisNames[0]) parts.push(["axis", state.axis]);
  if (state.cell) parts.push(["cell", state.cell]);
  const fragment = parts.map(([name, value]) => `${name}=${encodeURIComponent(value).replaceAll("%2C", ",")}`).join("&");
  history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
}

function change(update) {
  Object.assign(state, update);
  writeFragment();
  show();
}

function show() {
  listeners.forEach((listener) => listener());
}

function chip(group, value) {
  const input = Object.assign(document.createElement("input"), { type: "checkbox", name: group, value });
  input.addEventListener("change", () => {
    const chosen = new Set(state[group]);
    chosen[input.checked ? "add" : "delete"](value);
    change({ [group]: chosen });
  });
  const text = document.createElement("span");
  text.append(...swatch(group, value), GROUPS[group].name(value));
  const label = Object.assign(document.createElement("label"), { className: "chip" });
  label.append(input, text);
  return label;
}

/** The filters are the key too: a simulator has one colour in every figure, a track one dash and one mark. */
function swatch(group, value) {
  if (group !== "simulator" && group !== "track") return [];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 26 10");
  Object.entries({ width: 26, height: 10, "aria-hidden": "true" }).forEach(([name, setting]) => svg.setAttribute(name, setting));
  const line = group === "simulator" ? `style="stroke: ${D.simulators.find((sim) => sim.system === value).color}" stroke-width="4"` : `stroke="var(--muted)" stroke-width="2" stroke-dasharray="${D.tracks[value].dasharray}"`;
  svg.innerHTML = `<line x1="1" y1="5" x2="25" y2="5" ${line}/>`;
  return [svg];
}

function buildFilters() {
  const place = document.getElementById("groups");
  for (const [group, { label, values }] of Object.entries(GROUPS)) {
    if (!values.length) continue;
    const fieldset = document.createElement("fieldset");
    fieldset.append(Object.assign(document.createElement("legend"), { textContent: label }), ...values.map((value) => chip(group, value)));
    place.append(fieldset);
  }
  const buttons = Object.assign(document.createElement("div"), { className: "buttons" });
  buttons.append(Object.assign(document.createElement("span"), { className: "note active" }));
  buttons.append(button("Reset", () => change({ cell: null, ...Object.fromEntries(Object.keys(GROUPS).map((group) => [group, new Set()])) })));
  buttons.append(button("Copy link", copyLink));
  place.append(buttons);
}

function button(text, press) {
  const made = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: text });
  made.addEventListener("click", press);
  return made;
}

async function copyLink() {
  try {
    await navigator.clipboard.writeText(location.href);
    say("Link copied: it opens this page with these filters.");
  } catch { say(`The link to this view is in the address bar: ${location.href}`); }
}

function say(text) { document.getElementById("status").textContent = text; }

function syncFilters() {
  document.querySelectorAll("#groups input").forEach((input) => { input.checked = state[input.name].has(input.value); });
  const cells = chosenCells().length, sims = chosenSimulators().length;
  document.querySelectorAll(".active").forEach((place) => { place.textContent = `${cells}/${D.cells.length} cells, ${sims}/${D.simulators.length} tracks`; });
  say(`Showing ${cells} of ${D.cells.length} cells, ${sims} of ${D.simulators.length} simulators and tracks.`);
}
