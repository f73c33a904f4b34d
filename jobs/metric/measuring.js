// The list of measurements: shown, saved, and loaded again at a later visit.
const measurements = []; // {name, kind, points: [{picks, earlier}], earlier}
const KINDS = Object.keys(QUANTITIES);
const MOST = 1000; // measurements in a file
const element = (tag, content = "", attributes = {}) => {
  const made = document.createElement(tag);
  made.textContent = content;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
};
const newPoint = () => ({ picks: new Map(), seen: new Set(), earlier: null }); // seen: photos that were suggested
const say = words => { document.getElementById("measured").textContent = words; };

function pointButton(point, words) {
  const photosOf = `${point.picks.size} photo${point.picks.size === 1 ? "" : "s"}`;
  const button = element("button", `${words}: ${photosOf}`, { "aria-pressed": point === current });
  button.onclick = () => choose(point);
  return button;
}

function listMeasurements() {
  document.getElementById("measurements").replaceChildren(...measurements.map(item => {
    const row = element("tr"), cells = [0, 1, 2, 3, 4, 5, 6].map(() => row.appendChild(element("td")));
    const name = element("input", "", { class: "name", "aria-label": "name of the measurement", maxlength: 80 });
    name.value = item.name;
    name.oninput = () => { item.name = name.value; };
    cells[0].append(name);
    cells[1].append(element("span", item.kind, { title: QUANTITIES[item.kind].hint }));
    item.points.forEach((point, k) => cells[2].append(pointButton(point, String(k + 1)), " "));
    if (item.points.length < QUANTITIES[item.kind].most) {
      const more = element("button", "Add a corner");
      more.onclick = () => { item.points.push(newPoint()); choose(item.points.at(-1)); };
      cells[2].append(more);
    }
    const now = figureOf(item);
    cells[3].append(element("output", now.why || written(scaled(now)), { class: now.why ? "why" : "" }));
    const left = item.points.flatMap(point => (point.solution.found ? point.solution.found.leftOut : []));
    if (left.length) cells[3].append(element("div", `The pick in ${left.join(", ")} contradicts the others.`, { class: "why" }));
    const uneven = item.kind === "area" && !now.why && unevenness(item.points.map(point => point.solution.found));
    if (uneven) cells[3].append(element("div", `Not flat: a corner is ${written(scaled(uneven))} off the plane that fits best.`, { class: "why" }));
    if (item.earlier) {
      cells[4].textContent = earlierWords(item.earlier);
      const off = now.why ? { why: "" } : differenceOf(now, item.earlier);
      const shown = "why" in off ? off.why : written(off, true);
      cells[5].append(element("output", shown, { class: "why" in off ? "why" : "" }));
    }
    const remove = element("button", "Remove", { "aria-label": `Remove ${item.name}` });
    remove.onclick = () => {
      measurements.splice(measurements.indexOf(item), 1);
      choose(item.points.includes(current) ? null : current);
    };
    cells[6].append(remove);
    return row;
  }));
}

// What an earlier visit measured: with today's scale if both visits are in one frame.
function earlierWords(earlier) {
  const figure = { value: earlier.units, error: earlier.unitsError, power: QUANTITIES[earlier.kind].power };
  if (earlier.frame === page.frame || !figure.power) return written(scaled(figure));
  return page.scale && earlier.inMetres ? written({ ...figure, value: earlier.value, error: earlier.error }) : "in another frame";
}

for (const kind of KINDS) {
  const button = element("button", `Add ${kind === "angle" || kind === "area" ? "an" : "a"} ${kind}`, { title: QUANTITIES[kind].hint });
  button.onclick = () => {
    const points = Array.from({ length: QUANTITIES[kind].least }, newPoint);
    measurements.push({ name: `${kind} ${measurements.filter(item => item.kind === kind).length + 1}`, kind, points, earlier: null });
    choose(points[0]);
  };
  document.getElementById("kinds").append(button, " ");
}

const pick = document.getElementById("accuracy");
pick.value = accuracy;
pick.onchange = () => {
  if (Number(pick.value) >= 0.05 && Number(pick.value) <= 100) accuracy = Number(pick.value);
  pick.value = accuracy;
  choose(current);
};

function download(name, type, text) {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// What is saved of a measurement: in metres (or scene units), and in scene units without the error of the scale.
function record(item) {
  const now = figureOf(item), shown = now.why ? null : scaled(now);
  return {
    name: item.name.trim() || item.kind, kind: item.kind,
    value: shown ? shown.value : null, error: shown ? shown.error : null, unit: unitOf(QUANTITIES[item.kind].power),
    units: shown ? now.value : null, units_error: shown ? now.error : null,
    points: item.points.map(point => ({
      position: solved(point).found ? solved(point).found.position : null, picks: picksOf(point) })),
  };
}

document.getElementById("save-json").onclick = () => {
  if (!measurements.length) return say("Measure something first.");
  const about = { scene: page.scene, frame: page.frame, dataset: page.dataset, pick_accuracy: accuracy,
    metres_per_unit: page.scale ? page.scale.metres : null, scale_error: page.scale ? page.scale.error : null,
    registration_error: page.registrationError };
  const text = JSON.stringify({ ...about, measurements: measurements.map(record) }, null, 2) + "\n";
  download("measurements.json", "application/json", text);
  return say("measurements.json is in your downloads.");
};

document.getElementById("save-csv").onclick = () => {
  if (!measurements.length) return say("Measure something first.");
  // A spreadsheet would run a text that begins with one of these signs as a formula.
  const cell = v => (v === null || v === undefined ? "" : typeof v === "number" ? String(v)
    : `"${(/^[=+\-@\t\r]/.test(v) ? "'" : "") + v.replaceAll('"', '""')}"`);
  const rows = [["name", "kind", "value", "standard error", "unit", "difference", "standard error of the difference"]];
  for (const item of measurements) {
    const saved = record(item), now = figureOf(item);
    const off = item.earlier && !now.why ? differenceOf(now, item.earlier) : {};
    rows.push([saved.name, saved.kind, saved.value, saved.error, saved.unit, off.value, off.error]);
  }
  download("measurements.csv", "text/csv", rows.map(row => row.map(cell).join(",") + "\r\n").join(""));
  return say("measurements.csv is in your downloads.");
};

const number = (v, least = -1e9) => {
  if (typeof v !== "number" || !Number.isFinite(v) || v < least || v > 1e9) throw new Error("a value is no number");
  return v;
};
const words = (v, most) => {
  if (typeof v !== "string" || v.length > most) throw new Error("a name or text is missing or too long");
  return v;
};

// Points of an item of a file. Of the same dataset, its picks; of another in the same frame, where the points were.
function loadedPoint(point, same, known) {
  const made = newPoint();
  if (known && point.position !== null) made.earlier = [0, 1, 2].map(k => number(point.position[k]));
  for (const { photo, x, y } of same ? point.picks : []) {
    const index = photos.findIndex(p => p.name === photo);
    if (index >= 0) made.picks.set(index, [number(x, 0) * photos[index].scale, number(y, 0) * photos[index].scale]);
  }
  return made;
}

// Adds the measurements of a file to the list; throws words if it is not one that this page saved.
function load(text) {
  const file = JSON.parse(text), same = file.dataset === page.dataset, known = file.frame === page.frame && !same;
  if (words(file.scene, 80) !== page.scene) throw new Error(`it is of the scene ${file.scene}`);
  if (!Array.isArray(file.measurements) || file.measurements.length > MOST) throw new Error("it has no list of measurements");
  const inMetres = file.metres_per_unit !== null, registrationError = number(file.registration_error, 0);
  const loaded = file.measurements.map(each => {
    const { least, most } = QUANTITIES[KINDS.find(kind => kind === each.kind)] || { least: 1, most: 0 };
    const fits = Array.isArray(each.points) && each.points.length >= least && each.points.length <= most;
    if (!fits) throw new Error(`the kind or the points of ${words(each.name, 80)} are not known`);
    const earlier = each.value === null || same ? null : { kind: each.kind, frame: words(file.frame, 200), inMetres, registrationError,
      value: number(each.value), error: number(each.error, 0), units: number(each.units), unitsError: number(each.units_error, 0) };
    return { name: words(each.name, 80), kind: each.kind, earlier, points: each.points.map(p => loadedPoint(p, same, known)) };
  });
  measurements.push(...loaded);
  if (same) accuracy = Math.min(100, number(file.pick_accuracy, 0.05));
  pick.value = accuracy;
  choose(current);
  return `${loaded.length} loaded.` + (known ? " Grey rings show where the points were; pick them again." : "");
}

document.getElementById("load").onchange = async event => {
  const [file] = event.target.files;
  if (!file) return;
  try {
    if (file.size > 20e6) throw new Error("it is larger than 20 MB");
    say(load(await file.text()));
  } catch (error) { say(`${file.name} is not used: ${error.message}.`); }
  event.target.value = "";
};
