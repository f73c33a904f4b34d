// The photos side by side, in which points are picked, and the list of known lengths.
const lengths = [];
let current = null; // the point that is picked: {picks: Map from photo index to [x, y]}
const panes = [];

const everyPoint = () => [...lengths.flatMap(length => length.ends), ...measurements.flatMap(item => item.points)];

function draw(pane) {
  const { canvas, image } = pane, g = canvas.getContext("2d"), ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * ratio; canvas.height = height * ratio;
  g.scale(ratio, ratio);
  const p = photos[pane.index];
  if (!pane.zoom) {
    pane.zoom = Math.min(width / p.size[0], height / p.size[1]);
    pane.x = (width - pane.zoom * p.size[0]) / 2; pane.y = (height - pane.zoom * p.size[1]) / 2;
  }
  const at = ([x, y]) => [pane.x + pane.zoom * x, pane.y + pane.zoom * y];
  g.imageSmoothingEnabled = pane.zoom < 4;
  if (image.complete && image.naturalWidth) g.drawImage(image, pane.x, pane.y, pane.zoom * p.size[0], pane.zoom * p.size[1]);
  const cross = (pixel, colour, arm) => {
    const [x, y] = at(pixel);
    g.strokeStyle = colour; g.lineWidth = 1.5; g.beginPath();
    g.moveTo(x - arm, y); g.lineTo(x + arm, y); g.moveTo(x, y - arm); g.lineTo(x, y + arm); g.stroke();
  };
  for (const point of everyPoint()) {
    if (point !== current && point.picks.has(pane.index)) cross(point.picks.get(pane.index), "#3b82f6", 8);
    const before = point.earlier && project(p, point.earlier);
    if (before) {
      g.strokeStyle = point === current ? "#e8790c" : "#9aa1ac"; g.lineWidth = 2; g.beginPath();
      g.arc(...at(before), 9, 0, 2 * Math.PI); g.stroke();
    }
  }
  for (const item of measurements) outline(g, p, item, at);
  if (document.activeElement === canvas) { // where the keyboard picks
    g.strokeStyle = "#fff"; g.lineWidth = 1; g.beginPath();
    g.arc(width / 2, height / 2, 5, 0, 2 * Math.PI); g.stroke();
  }
  pane.next.disabled = !(current && solved(current).found);
  if (pane.under) {
    g.beginPath(); g.arc(...at([pane.under.x, pane.under.y]), 8, 0, 2 * Math.PI);
    g.strokeStyle = "#000"; g.lineWidth = 5; g.stroke(); // seen on a bright wall, too
    g.strokeStyle = "#fff"; g.lineWidth = 2; g.stroke();
  }
  pane.lines = 0;
  if (!current) return;
  for (const [index, pixel] of current.picks) {
    if (index === pane.index) continue;
    const from = position(photos[index]), d = ray(photos[index], pixel), reach = Math.max(...p.extent);
    g.strokeStyle = "#e8790c"; g.lineWidth = 1; g.beginPath();
    let on = false, seen = 0;
    for (let k = 0; k <= 400; k++) { // depths from a hundredth to a hundred times the scene's size
      const t = reach * 10 ** (-2 + k / 100), there = project(p, from.map((v, i) => v + t * d[i]));
      const inside = there && Math.abs(there[0]) < 4 * p.size[0] && Math.abs(there[1]) < 4 * p.size[1];
      if (inside) { const [x, y] = at(there); on ? g.lineTo(x, y) : g.moveTo(x, y); seen++; }
      on = Boolean(inside);
    }
    g.stroke();
    pane.lines += seen > 1 ? 1 : 0;
  }
  const { found } = solved(current), there = found && project(p, found.position);
  if (there) cross(there, "#14a08c", 14);
  if (current.picks.has(pane.index)) cross(current.picks.get(pane.index), "#e8790c", 10);
}

// Lines between the points of a measurement, as far as they are known.
function outline(g, p, item, at) {
  const seen = item.points.map(point => {
    const { found } = solved(point), there = found && project(p, found.position);
    return there && at(there);
  });
  connect(g, item, seen);
}

// The lines, from places on a canvas; null where a point is not known or not shown.
function connect(g, item, seen) {
  g.strokeStyle = "#14a08c"; g.lineWidth = 1.5; g.beginPath();
  seen.forEach((to, k) => {
    const from = k || item.kind === "area" ? seen.at(k - 1) : null;
    if (from && to) { g.moveTo(...from); g.lineTo(...to); }
  });
  g.stroke();
}

const drawAll = () => { panes.forEach(draw); drawSpace(); };

function choose(point) {
  current = point;
  for (const pane of panes) pane.under = null;
  list(); drawAll();
}

function show(pane, index) {
  pane.index = index; pane.zoom = 0; pane.under = null;
  pane.select.value = index;
  pane.image.src = photos[index].picture;
  pane.canvas.setAttribute("aria-label", `${photos[index].name}: arrows move the photo, plus and minus zoom, Enter picks at its middle, Delete removes the pick`);
}

// Shows the photo that would make the current point most exact if it were picked there too, where the point must be.
function showNext(pane) {
  const { position } = solved(current).found, most = photos.map((p, index) => {
    const at = project(p, position), inside = at && at.every((v, i) => v > 0 && v < p.size[i]);
    if (!inside || current.picks.has(index) || current.seen.has(index)) return Infinity;
    return trace(triangulate(new Map([...current.picks, [index, at]])).covariance);
  });
  const least = Math.min(...most), index = most.indexOf(least), { canvas } = pane;
  current.seen.add(index);
  if (least === Infinity) { current.seen.clear(); return say("No further photo shows this point."); }
  show(pane, index);
  const [x, y] = project(photos[index], position), [width, height] = [canvas.clientWidth, canvas.clientHeight];
  pane.zoom = 4 * Math.min(width / photos[index].size[0], height / photos[index].size[1]);
  pane.x = width / 2 - pane.zoom * x; pane.y = height / 2 - pane.zoom * y;
  return say("");
}

function makePane(index) {
  const box = document.createElement("div"), select = document.createElement("select");
  const next = element("button", "Next photo of the point", { title: "the photo that would make it most exact" });
  const canvas = element("canvas", "", { tabindex: 0, role: "application" }), pane = { canvas, select, next, image: new Image() };
  box.className = "pane";
  select.setAttribute("aria-label", "photo");
  photos.forEach((p, k) => select.append(new Option(p.name, k)));
  select.onchange = () => show(pane, Number(select.value));
  pane.image.onload = () => draw(pane);
  next.onclick = () => showNext(pane);
  const head = element("div", "", { class: "head" });
  head.append(select, next);
  box.append(head, canvas);
  document.querySelector(".panes").append(box);
  panes.push(pane);
  let held = null;
  const pixel = event => [(event.offsetX - pane.x) / pane.zoom, (event.offsetY - pane.y) / pane.zoom];
  const zoomBy = (times, x, y) => { // about a place of the canvas
    const zoom = Math.min(64, Math.max(0.05, pane.zoom * times));
    pane.x = x - (x - pane.x) * zoom / pane.zoom; pane.y = y - (y - pane.y) * zoom / pane.zoom;
    pane.zoom = zoom;
    draw(pane);
  };
  const setPick = (x, y, freely) => {
    const [width, height] = photos[pane.index].size;
    if (!current || x < 0 || y < 0 || x > width || y > height) return;
    const under = freely ? null : trackUnder(pane, [x, y]);
    if (under) { snap(under.track); return; }
    current.picks.set(pane.index, [x, y]);
    current.snapped = false;
    choose(current);
  };
  const dropPick = () => {
    if (!current || !current.picks.delete(pane.index)) return;
    if (current.snapped) current.picks.clear(); // one click made all of them
    choose(current);
  };
  canvas.onwheel = event => {
    event.preventDefault();
    zoomBy(1.0015 ** -event.deltaY, event.offsetX, event.offsetY);
  };
  canvas.onpointerdown = event => {
    held = { x: event.offsetX, y: event.offsetY, moved: false };
    canvas.setPointerCapture(event.pointerId);
  };
  canvas.onpointermove = event => {
    if (!held) {
      const under = event.shiftKey ? null : trackUnder(pane, pixel(event));
      if (under !== pane.under) { pane.under = under; draw(pane); }
      return;
    }
    const [dx, dy] = [event.offsetX - held.x, event.offsetY - held.y];
    if (!held.moved && Math.hypot(dx, dy) < 4) return;
    held.moved = true; held.x = event.offsetX; held.y = event.offsetY;
    pane.x += dx; pane.y += dy;
    draw(pane);
  };
  canvas.onpointerup = event => {
    const moved = held && held.moved;
    held = null;
    if (!moved && !event.button) setPick(...pixel(event), event.shiftKey);
  };
  canvas.oncontextmenu = event => {
    event.preventDefault();
    dropPick();
  };
  canvas.onfocus = canvas.onblur = () => draw(pane);
  canvas.onkeydown = event => {
    const [x, y] = [canvas.clientWidth / 2, canvas.clientHeight / 2], far = event.shiftKey ? 1 : 40;
    const moves = { ArrowLeft: [far, 0], ArrowRight: [-far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (moves[event.key]) { pane.x += moves[event.key][0]; pane.y += moves[event.key][1]; draw(pane); }
    else if (event.key === "+" || event.key === "=") zoomBy(1.25, x, y);
    else if (event.key === "-") zoomBy(0.8, x, y);
    else if (event.key === "Enter") setPick((x - pane.x) / pane.zoom, (y - pane.y) / pane.zoom, event.shiftKey);
    else if (event.key === "Delete" || event.key === "Backspace") dropPick();
    else return;
    event.preventDefault();
  };
  show(pane, index);
}

function list() {
  listMeasurements();
  document.getElementById("lengths").replaceChildren(...lengths.map(length => {
    const row = element("tr");
    for (const [key, label] of [["name", "name of the length"], ["metres", "metres"], ["accuracy", "accuracy in metres"]]) {
      const input = element("input", "", { class: key, "aria-label": label });
      input.value = length[key];
      input.oninput = () => { length[key] = input.value; };
      row.appendChild(element("td")).append(input);
    }
    const ends = row.appendChild(element("td"));
    length.ends.forEach((end, k) => ends.append(pointButton(end, k ? "end" : "start"), " "));
    const remove = element("button", "Remove", { "aria-label": `Remove ${length.name}` });
    remove.onclick = () => {
      lengths.splice(lengths.indexOf(length), 1);
      choose(length.ends.includes(current) ? null : current);
    };
    row.appendChild(element("td")).append(remove);
    return row;
  }));
}

document.getElementById("add").onclick = () => {
  const length = { name: `length ${lengths.length + 1}`, metres: "", accuracy: "0.002", ends: [newPoint(), newPoint()] };
  lengths.push(length);
  choose(length.ends[0]);
};

const rounded = v => Math.round(v * 1000) / 1000;
const picksOf = end => [...end.picks].map(([index, [x, y]]) => {
  const p = photos[index];
  return { photo: p.name, x: rounded(x / p.scale), y: rounded(y / p.scale) };
});

document.getElementById("save").onclick = () => {
  const said = document.getElementById("said"), names = lengths.map(length => length.name.trim());
  // Areas that are picked have names, by which later changes in them are listed.
  const areas = measurements.filter(item => item.kind === "area" && item.points.every(point => point.picks.size > 1))
    .map(item => ({ name: item.name.trim() || item.kind, corners: item.points.map(picksOf) }));
  const wrong = !lengths.length && !areas.length ? "Add a length first."
    : new Set(areas.map(area => area.name)).size < areas.length ? "Two areas have the same name."
    : lengths.map((length, k) => {
      const name = names[k] || `length ${k + 1}`;
      if (!names[k]) return `${name} has no name.`;
      if (names.indexOf(names[k]) !== k) return `Two lengths have the name ${name}.`;
      if (!(Number(length.metres) > 0)) return `${name}: say how many metres it is.`;
      if (!(Number(length.accuracy) > 0)) return `${name}: say how exact it is, in metres.`;
      return length.ends.some(end => end.picks.size < 2) ? `${name}: pick each end in two photos or more.` : "";
    }).find(Boolean);
  said.textContent = wrong || "Saved to your downloads.";
  if (wrong) return;
  const content = { areas, lengths: lengths.map((length, k) => ({
    name: names[k], metres: Number(length.metres), accuracy: Number(length.accuracy),
    from: picksOf(length.ends[0]), to: picksOf(length.ends[1]) })) };
  download("scale.json", "application/json", JSON.stringify(content, null, 2) + "\n");
};

[0, Math.min(photos.length - 1, Math.max(1, Math.floor(photos.length / 6)))].forEach(makePane);
makeSpace();
addEventListener("resize", drawAll);
