// The points that structure from motion triangulated, and the 3D view of them. A click takes over where photos show the
// point under the cursor, so that it is triangulated, measured and saved like a point that was picked in photos.
const tracks = page.tracks; // {at, colour, seen: [[photo, x, y]]}
const NEAR = 14; // px around the cursor, in which a point is found
const CLOSE = 2; // px of a picture, by which a click in it may miss a point
const LAYER = 1.1; // points farther than the nearest one by this factor are behind it
const space = { canvas: null, shown: [], hovered: null };

const shownBy = photos.map(() => []); // {x, y, track} of each photo
for (const track of tracks) for (const [index, x, y] of track.seen) shownBy[index].push({ x, y, track });

const median = values => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

function resetSpace() {
  space.target = [0, 1, 2].map(k => median(tracks.map(track => track.at[k])));
  const from = [0, 1, 2].map(k => photos.reduce((total, p) => total + position(p)[k], 0) / photos.length);
  const off = minus(from, space.target), radius = median(tracks.map(track => length3(minus(track.at, space.target))));
  space.turn = Math.atan2(off[0], -off[1]);
  space.tilt = Math.max(-1.2, Math.min(1.2, Math.asin(off[2] / (length3(off) || 1))));
  space.distance = space.usual = Math.max(length3(off), 2 * radius, 1e-6);
}

function axesOf({ turn, tilt }) { // right, up, back; +Z is up
  const back = [Math.sin(turn) * Math.cos(tilt), -Math.cos(turn) * Math.cos(tilt), Math.sin(tilt)];
  const right = [Math.cos(turn), Math.sin(turn), 0];
  return [right, crossed(back, right), back];
}

const focalOf = canvas => 0.8 * Math.max(canvas.clientWidth, canvas.clientHeight);

// A function from a point to [x, y, depth] in px of the canvas; null if it is behind the view.
function projection() {
  const [right, up, back] = axesOf(space), { canvas } = space, focal = focalOf(canvas);
  const eye = space.target.map((v, k) => v + space.distance * back[k]);
  return point => {
    const d = minus(point, eye), z = -dot(back, d);
    if (z < 0.01 * space.distance) return null;
    return [canvas.clientWidth / 2 + focal * dot(right, d) / z, canvas.clientHeight / 2 - focal * dot(up, d) / z, z];
  };
}

// The track at a place of the canvas: of those in front, the one nearest to the cursor.
function trackAt(x, y) {
  const near = space.shown.map(({ at, track }) => ({ off: Math.hypot(at[0] - x, at[1] - y), depth: at[2], track }))
    .filter(each => each.off <= NEAR);
  const front = LAYER * Math.min(...near.map(each => each.depth));
  const found = near.filter(each => each.depth <= front).sort((a, b) => a.off - b.off)[0];
  return found ? found.track : null;
}

// The track that a photo shows at a pixel, if the current point has no picks yet that it would replace.
function trackUnder(pane, [x, y]) {
  let found = null, least = CLOSE;
  if (!current || current.picks.size) return found;
  for (const each of shownBy[pane.index]) {
    const off = Math.hypot(each.x - x, each.y - y);
    if (off <= least) { least = off; found = each; }
  }
  return found;
}

function drawSpace() {
  const { canvas } = space;
  if (!canvas) return;
  const g = canvas.getContext("2d"), ratio = devicePixelRatio || 1, seenAt3 = projection();
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * ratio; canvas.height = height * ratio;
  g.scale(ratio, ratio);
  space.shown = tracks.map(track => ({ track, at: seenAt3(track.at) }))
    .filter(({ at }) => at && at[0] > 0 && at[1] > 0 && at[0] < width && at[1] < height)
    .sort((a, b) => b.at[2] - a.at[2]);
  for (const { at, track } of space.shown) {
    const size = Math.max(3, Math.min(6, 4 * space.distance / at[2]));
    g.fillStyle = track.colour;
    g.fillRect(at[0] - size / 2, at[1] - size / 2, size, size);
  }
  const ring = (at, colour, radius) => {
    g.strokeStyle = colour; g.lineWidth = 2; g.beginPath();
    g.arc(at[0], at[1], radius, 0, 2 * Math.PI); g.stroke();
  };
  const placeOf = point => { const { found } = solved(point); return found ? seenAt3(found.position) : null; };
  for (const point of everyPoint()) {
    const at = placeOf(point), before = point.earlier && seenAt3(point.earlier);
    if (before) ring(before, "#9aa1ac", 9);
    if (at) ring(at, point === current ? "#e8790c" : "#3b82f6", 6);
  }
  for (const item of measurements) {
    const at = item.points.map(placeOf);
    connect(g, item, at);
    const now = figureOf(item);
    if (now.why || at.some(each => !each)) continue;
    label(g, written(scaled(now)), item.kind === "angle" ? at[1] : [0, 1].map(k => at.reduce((s, a) => s + a[k], 0) / at.length));
  }
  if (space.hovered) { const at = seenAt3(space.hovered.at); if (at) ring(at, "#fff", 8); }
  if (document.activeElement === canvas) ring([width / 2, height / 2], "#fff", 5); // where the keyboard picks
}

function label(g, text, [x, y]) {
  g.font = "14px system-ui, sans-serif"; g.textAlign = "center";
  const half = Math.min(g.canvas.clientWidth, g.measureText(text).width + 8) / 2;
  const middle = Math.max(half, Math.min(g.canvas.clientWidth - half, x)); // stays within the view
  g.lineWidth = 4; g.strokeStyle = "#000"; g.strokeText(text, middle, y - 10);
  g.fillStyle = "#fff"; g.fillText(text, middle, y - 10);
}

// Takes over the photos of a track for the current point, and goes on to the next point that has none.
function snap(track) {
  const said = document.getElementById("snapped");
  if (!current) { said.textContent = "Add a measurement first, then choose its points."; return; }
  if (!track) { said.textContent = "No point here that photos agree on."; return; }
  current.picks.clear();
  for (const [index, x, y] of track.seen) current.picks.set(index, [x, y]);
  current.snapped = true;
  const { found, why } = solved(current), metres = page.scale ? page.scale.metres : 1;
  said.textContent = why ? `The point ${why}.`
    : `A point of ${track.seen.length} photos, ± ${(limits.times * metres * Math.sqrt(trace(found.covariance))).toPrecision(2)} ${unitOf(1)}.`;
  const item = measurements.find(each => each.points.includes(current));
  choose((item && item.points.find(point => !point.picks.size)) || current);
}

function turnSpace(dx, dy) {
  space.turn -= 0.005 * dx;
  space.tilt = Math.max(-1.55, Math.min(1.55, space.tilt + 0.005 * dy));
}

function moveSpace(dx, dy) {
  const [right, up] = axesOf(space), step = space.distance / focalOf(space.canvas);
  space.target = space.target.map((v, k) => v + step * (dy * up[k] - dx * right[k]));
}

function zoomSpace(factor) {
  space.distance = Math.max(0.02 * space.usual, Math.min(10 * space.usual, space.distance * factor));
}

function makeSpace() {
  if (!tracks.length) return;
  const box = element("div", "", { class: "pane" }), canvas = element("canvas", "", { tabindex: 0, role: "application",
    "aria-label": "3D view: arrows turn it, with Shift they move it, plus and minus zoom, Enter picks the point at its middle, Delete removes the pick, Home goes back" });
  const heading = element("div", `3D: ${tracks.length.toLocaleString("en")} points that photos agree on. `);
  heading.append(element("span", "", { id: "snapped", role: "status" }));
  box.append(heading, canvas);
  document.querySelector(".panes").append(box);
  space.canvas = canvas;
  resetSpace();
  const fingers = new Map();
  let moved = false;
  canvas.onwheel = event => { event.preventDefault(); zoomSpace(1.0015 ** event.deltaY); drawSpace(); };
  canvas.onpointerdown = event => {
    canvas.setPointerCapture(event.pointerId);
    moved = fingers.size > 0; // a second finger never picks
    fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
  };
  canvas.onpointermove = event => {
    const before = fingers.get(event.pointerId), [x, y] = [event.offsetX, event.offsetY];
    if (!before) { space.hovered = trackAt(x, y); drawSpace(); return; }
    const [dx, dy] = [x - before[0], y - before[1]];
    if (!moved && Math.hypot(dx, dy) < 4) return;
    moved = true;
    space.hovered = null;
    if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      zoomSpace(Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1])) / Math.max(1, Math.hypot(x - other[0], y - other[1])));
      moveSpace(dx / 2, dy / 2);
    } else if (event.shiftKey || event.buttons & 2) moveSpace(dx, dy);
    else turnSpace(dx, dy);
    fingers.set(event.pointerId, [x, y]);
    drawSpace();
  };
  canvas.onpointerup = event => {
    fingers.delete(event.pointerId);
    if (!moved && !event.button) snap(trackAt(event.offsetX, event.offsetY));
  };
  canvas.onpointercancel = event => fingers.delete(event.pointerId);
  canvas.oncontextmenu = event => event.preventDefault();
  canvas.onfocus = canvas.onblur = () => drawSpace();
  canvas.onkeydown = event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = { ArrowLeft: [20, 0], ArrowRight: [-20, 0], ArrowUp: [0, 20], ArrowDown: [0, -20] }[event.key];
    if (arrows) (event.shiftKey ? moveSpace : turnSpace)(...arrows);
    else if (event.key === "+" || event.key === "=") zoomSpace(0.8);
    else if (event.key === "-") zoomSpace(1.25);
    else if (event.key === "Home") resetSpace();
    else if (event.key === "Enter") snap(trackAt(canvas.clientWidth / 2, canvas.clientHeight / 2));
    else if ((event.key === "Delete" || event.key === "Backspace") && current) { current.picks.clear(); choose(current); }
    else return;
    event.preventDefault();
    drawSpace();
  };
}
