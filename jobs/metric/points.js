"use strict";
// Cameras and triangulated points, as jobs/metric/cameras.py has them; a test holds both to each other.
// Pixels are those of the dataset's pictures, but of the photos in saved files. Camera axes are OpenCV's.
const page = JSON.parse(document.getElementById("page").textContent);
const photos = page.photos, limits = page.limits;
let accuracy = limits.pick; // standard deviation of a pick, in pixels of the photos

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const minus = (a, b) => a.map((v, i) => v - b[i]);
const times = (a, k) => a.map(v => v * k);
const length3 = a => Math.hypot(...a);
const unit = a => times(a, 1 / length3(a));
const crossed = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const apply = (m, a) => m.map(row => dot(row, a));
const sum = (a, b) => a.map((row, i) => row.map((v, j) => v + b[i][j]));
const transposed = m => m[0].map((_, j) => m.map(row => row[j]));
const product = (a, b) => a.map(row => transposed(b).map(column => dot(row, column)));
const spread = (m, a) => dot(a, apply(m, a)); // the variance along a direction
const trace = m => m[0][0] + m[1][1] + m[2][2];
const zeros = () => [[0, 0, 0], [0, 0, 0], [0, 0, 0]];

function inverse(m) {
  const columns = [crossed(m[1], m[2]), crossed(m[2], m[0]), crossed(m[0], m[1])], whole = dot(m[0], columns[0]);
  return transposed(columns.map(column => times(column, 1 / whole)));
}

// In a fisheye: how far from the principal point an angle to the view is shown, in focal lengths.
const bent = (p, angle) => angle * p.distortion.reduce((s, k, i) => s + k * angle ** (2 * i + 2), 1);
const slope = (p, angle) =>
  Math.max(0.1, p.distortion.reduce((s, k, i) => s + (2 * i + 3) * k * angle ** (2 * i + 2), 1));
const distorted = (p, [x, y]) => {
  if (p.fisheye) {
    const radius = Math.hypot(x, y), s = bent(p, Math.atan(radius)) / Math.max(radius, 1e-12);
    return [x * s, y * s];
  }
  const [k1, k2, p1, p2] = p.distortion, r = x * x + y * y, s = 1 + k1 * r + k2 * r * r;
  return [x * s + 2 * p1 * x * y + p2 * (r + 2 * x * x), y * s + p1 * (r + 2 * y * y) + 2 * p2 * x * y];
};
const position = p => p.pose.map(row => row[3]);
const depth = (p, point) => dot(minus(point, position(p)), p.pose.map(row => row[2]));

function seenAt(p, point) {
  const d = minus(point, position(p));
  const [x, y, z] = [0, 1, 2].map(c => d[0] * p.pose[0][c] + d[1] * p.pose[1][c] + d[2] * p.pose[2][c]);
  const [u, v] = distorted(p, [x / z, y / z]);
  return [u * p.focal[0] + p.centre[0], v * p.focal[1] + p.centre[1]];
}

// Where a photo shows a point; null if it does not. Far beyond its corners, distortion has no meaning and folds lines.
function project(p, point) {
  const d = minus(point, position(p)), z = depth(p, point);
  const across = Math.sqrt(Math.max(0, dot(d, d) - z * z));
  const most = 0.75 * Math.hypot(...p.size) / p.focal[0];
  return z <= 1e-9 || across > z * (p.fisheye ? Math.tan(Math.min(most, 1.5)) : most) ? null : seenAt(p, point);
}

function ray(p, [x, y]) {
  const wanted = [(x - p.centre[0]) / p.focal[0], (y - p.centre[1]) / p.focal[1]];
  const axes = (x, y, z) => unit(p.pose.map(row => row[0] * x + row[1] * y + row[2] * z));
  if (p.fisheye) {
    const off = Math.hypot(...wanted);
    let angle = off;
    for (let k = 0; k < 20; k++) angle -= (bent(p, angle) - off) / slope(p, angle); // Newton's method
    const s = Math.sin(angle) / Math.max(off, 1e-12);
    return axes(s * wanted[0], s * wanted[1], Math.cos(angle));
  }
  let flat = wanted;
  for (let k = 0; k < 20; k++) {
    const there = distorted(p, flat);
    flat = flat.map((v, i) => v - (there[i] - wanted[i]));
  }
  return axes(...flat, 1);
}

// The least squares of the distances in pixels: {position, covariance, residuals}, residuals in standard deviations.
function leastSquares(seen) {
  const rays = seen.map(s => ray(s.p, s.pixel)), centres = seen.map(s => position(s.p));
  const narrowest = Math.min(...rays.flatMap(a => rays.map(b => dot(a, b))));
  const angle = Math.acos(Math.max(-1, Math.min(1, narrowest))) * 180 / Math.PI;
  if (angle < limits.angle) {
    throw new Error(`is seen from one direction only (${angle.toFixed(1)}°): pick it in photos farther apart`);
  }
  let a = zeros(), b = [0, 0, 0];
  rays.forEach((d, n) => {
    const across = d.map((v, i) => d.map((w, j) => (i === j ? 1 : 0) - v * w));
    a = sum(a, across);
    b = b.map((v, i) => v + dot(across[i], centres[n]));
  });
  let at = apply(inverse(a), b);
  const behind = () => !at.every(Number.isFinite) || seen.some(s => depth(s.p, at) <= 0);
  if (behind()) throw new Error("would be behind a camera: its picks do not belong together");
  const reach = Math.min(...centres.map(c => length3(minus(at, c))));
  const errors = point => seen.flatMap(s => seenAt(s.p, point).map((v, i) => (v - s.pixel[i]) / (accuracy * s.p.scale)));
  const cost = r => r.reduce((total, v) => total + v * v, 0);
  const jacobian = () => transposed([0, 1, 2].map(axis => { // rows of three derivatives, by central differences
    const step = 1e-5 * reach, moved = k => at.map((v, i) => (i === axis ? v + k * step : v));
    return minus(errors(moved(1)), errors(moved(-1))).map(v => v / (2 * step));
  }));
  const normal = rows => [0, 1, 2].map(i => [0, 1, 2].map(j => rows.reduce((total, row) => total + row[i] * row[j], 0)));
  let damping = 1e-6, residuals = errors(at);
  for (let k = 0; k < 200 && damping < 1e12; k++) {
    const rows = jacobian(), n = normal(rows);
    const slope = [0, 1, 2].map(i => rows.reduce((total, row, j) => total + row[i] * residuals[j], 0));
    const step = apply(inverse(n.map((row, i) => row.map((v, j) => (i === j ? v * (1 + damping) : v)))), slope);
    const next = minus(at, step), after = errors(next);
    if (cost(after) <= cost(residuals)) { at = next; residuals = after; damping /= 10; } else damping *= 10;
    if (length3(step) < 1e-12 * reach) break;
  }
  if (behind()) throw new Error("would be behind a camera: its picks do not belong together");
  const pairs = seen.map((_, k) => Math.hypot(residuals[2 * k], residuals[2 * k + 1]));
  return { position: at, covariance: inverse(normal(jacobian())), residuals: pairs };
}

// The point that picks (a Map from a photo's index to its pixel) show: {position, covariance, leftOut, distance}.
// If one of three picks or more is far off what the others show, it is left out. Throws words why there is no point.
function triangulate(picks) {
  if (picks.size < 2) throw new Error(`is picked in ${picks.size} photo${picks.size === 1 ? "" : "s"}, 2 are needed`);
  let seen = [...picks].map(([index, pixel]) => ({ p: photos[index], pixel }));
  const leftOut = [];
  for (;;) {
    const found = leastSquares(seen), worst = Math.max(...found.residuals);
    if (worst <= limits.wrong) {
      const distance = Math.min(...seen.map(s => length3(minus(found.position, position(s.p)))));
      return { position: found.position, covariance: found.covariance, leftOut, distance };
    }
    if (seen.length < 3) {
      const off = worst * accuracy * seen[found.residuals.indexOf(worst)].p.scale;
      throw new Error(`is not the same point in its photos: the rays miss each other by ${off.toFixed(0)} px`);
    }
    const costs = seen.map(left => { // of the others, without this one
      try {
        return leastSquares(seen.filter(s => s !== left)).residuals.reduce((total, v) => total + v * v, 0);
      } catch { return Infinity; }
    });
    const harmful = seen[costs.indexOf(Math.min(...costs))];
    leftOut.push(harmful.p.name);
    seen = seen.filter(s => s !== harmful);
  }
}

// The same, kept until the picks change: {found} or {why}.
function solved(point) {
  const key = JSON.stringify([accuracy, ...point.picks]);
  if (point.key !== key) {
    point.key = key;
    try { point.solution = { found: triangulate(point.picks) }; } catch (error) { point.solution = { why: error.message }; }
  }
  return point.solution;
}
