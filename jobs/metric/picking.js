"use strict";
// Pixels are those of the dataset's pictures, but of the photos in the saved file. Camera axes are OpenCV's.
const photos = JSON.parse(document.getElementById("photos").textContent);
const lengths = [];
let current = null; // {picks: Map from photo index to [x, y]}
const panes = [];

const distorted = (p, [x, y]) => {
  const [k1, k2, p1, p2] = p.distortion, r = x * x + y * y, s = 1 + k1 * r + k2 * r * r;
  return [x * s + 2 * p1 * x * y + p2 * (r + 2 * x * x), y * s + p1 * (r + 2 * y * y) + 2 * p2 * x * y];
};

function project(p, point) {
  const d = point.map((v, i) => v - p.pose[i][3]);
  const [x, y, z] = [0, 1, 2].map(c => d[0] * p.pose[0][c] + d[1] * p.pose[1][c] + d[2] * p.pose[2][c]);
  // Far beyond the picture's corners, a lens's distortion means nothing and folds lines over.
  if (z <= 1e-9 || Math.hypot(x, y) > z * 0.75 * Math.hypot(...p.size) / p.focal[0]) return null;
  const [u, v] = distorted(p, [x / z, y / z]);
  return [u * p.focal[0] + p.centre[0], v * p.focal[1] + p.centre[1]];
}

function ray(p, [x, y]) {
  const wanted = [(x - p.centre[0]) / p.focal[0], (y - p.centre[1]) / p.focal[1]];
  let flat = wanted;
  for (let k = 0; k < 20; k++) {
    const there = distorted(p, flat);
    flat = flat.map((v, i) => v - (there[i] - wanted[i]));
  }
  const d = p.pose.map(row => row[0] * flat[0] + row[1] * flat[1] + row[2]);
  const n = Math.hypot(...d);
  return d.map(v => v / n);
}

const position = p => p.pose.map(row => row[3]);

// The point that is nearest to all rays, or null.
function triangulate(picks) {
  if (picks.size < 2) return null;
  const a = [[0, 0, 0], [0, 0, 0], [0, 0, 0]], b = [0, 0, 0];
  for (const [index, pixel] of picks) {
    const d = ray(photos[index], pixel), c = position(photos[index]);
    for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++) {
      const m = (i === j ? 1 : 0) - d[i] * d[j];
      a[i][j] += m;
      b[i] += m * c[j];
    }
  }
  const det = m => m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
    + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
  const whole = det(a);
  if (Math.abs(whole) < 1e-9) return null;
  return [0, 1, 2].map(k => det(a.map((row, i) => row.map((v, j) => (j === k ? b[i] : v)))) / whole);
}

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
  for (const length of lengths) for (const end of length.ends) {
    if (end !== current && end.picks.has(pane.index)) cross(end.picks.get(pane.index), "#3b82f6", 8);
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
  const point = triangulate(current.picks), there = point && project(p, point);
  if (there) cross(there, "#14a08c", 14);
  if (current.picks.has(pane.index)) cross(current.picks.get(pane.index), "#e8790c", 10);
}

const drawAll = () => panes.forEach(draw);

function show(pane, index) {
  pane.index = index; pane.zoom = 0;
  pane.select.value = index;
  pane.image.src = photos[index].picture;
}

function makePane(index) {
  const box = document.createElement("div"), select = document.createElement("select");
  const canvas = document.createElement("canvas"), pane = { canvas, select, image: new Image() };
  box.className = "pane";
  select.setAttribute("aria-label", "photo");
  photos.forEach((p, k) => select.append(new Option(p.name, k)));
  select.onchange = () => show(pane, Number(select.value));
  pane.image.onload = () => draw(pane);
  box.append(select, canvas);
  document.querySelector(".panes").append(box);
  panes.push(pane);
  let held = null;
  const pixel = event => [(event.offsetX - pane.x) / pane.zoom, (event.offsetY - pane.y) / pane.zoom];
  canvas.onwheel = event => {
    event.preventDefault();
    const [x, y] = pixel(event);
    pane.zoom = Math.min(64, Math.max(0.05, pane.zoom * 1.0015 ** -event.deltaY));
    pane.x = event.offsetX - pane.zoom * x; pane.y = event.offsetY - pane.zoom * y;
    draw(pane);
  };
  canvas.onpointerdown = event => {
    held = { x: event.offsetX, y: event.offsetY, moved: false };
    canvas.setPointerCapture(event.pointerId);
  };
  canvas.onpointermove = event => {
    if (!held) return;
    const [dx, dy] = [event.offsetX - held.x, event.offsetY - held.y];
    if (!held.moved && Math.hypot(dx, dy) < 4) return;
    held.moved = true; held.x = event.offsetX; held.y = event.offsetY;
    pane.x += dx; pane.y += dy;
    draw(pane);
  };
  canvas.onpointerup = event => {
    const moved = held && held.moved;
    held = null;
    const [x, y] = pixel(event), [width, height] = photos[pane.index].size;
    if (moved || event.button || !current || x < 0 || y < 0 || x > width || y > height) return;
    current.picks.set(pane.index, [x, y]);
    list(); drawAll();
  };
  canvas.oncontextmenu = event => {
    event.preventDefault();
    if (current && current.picks.delete(pane.index)) { list(); drawAll(); }
  };
  show(pane, index);
}

function list() {
  const body = document.querySelector("tbody");
  body.replaceChildren(...lengths.map(length => {
    const row = document.createElement("tr");
    for (const [key, label] of [["name", "name"], ["metres", "metres"], ["accuracy", "accuracy in metres"]]) {
      const input = document.createElement("input");
      input.value = length[key]; input.className = key; input.setAttribute("aria-label", label);
      input.oninput = () => { length[key] = input.value; };
      row.append(document.createElement("td"));
      row.lastChild.append(input);
    }
    const ends = document.createElement("td");
    length.ends.forEach((end, k) => {
      const button = document.createElement("button");
      button.textContent = `${k ? "end" : "start"}: ${end.picks.size} photos`;
      button.className = end === current ? "own" : "";
      button.onclick = () => { current = end; list(); drawAll(); };
      ends.append(button, " ");
    });
    const remove = document.createElement("button");
    remove.textContent = "Remove";
    remove.onclick = () => {
      lengths.splice(lengths.indexOf(length), 1);
      if (length.ends.includes(current)) current = null;
      list(); drawAll();
    };
    row.append(ends, document.createElement("td"));
    row.lastChild.append(remove);
    return row;
  }));
}

document.getElementById("add").onclick = () => {
  const length = { name: `length ${lengths.length + 1}`, metres: "", accuracy: "0.002", ends: [{ picks: new Map() }, { picks: new Map() }] };
  lengths.push(length);
  current = length.ends[0];
  list(); drawAll();
};

const rounded = v => Math.round(v * 1000) / 1000;
const written = end => [...end.picks].map(([index, [x, y]]) => {
  const p = photos[index];
  return { photo: p.name, x: rounded(x / p.scale), y: rounded(y / p.scale) };
});

document.getElementById("save").onclick = () => {
  const said = document.getElementById("said"), names = lengths.map(length => length.name.trim());
  const wrong = !lengths.length ? "Add a length first."
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
  const content = { lengths: lengths.map((length, k) => ({
    name: names[k], metres: Number(length.metres), accuracy: Number(length.accuracy),
    from: written(length.ends[0]), to: written(length.ends[1]) })) };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2) + "\n"], { type: "application/json" }));
  link.download = "scale.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};

[0, Math.min(photos.length - 1, Math.max(1, Math.floor(photos.length / 6)))].forEach(makePane);
addEventListener("resize", drawAll);
