// What points measure, with standard errors, as jobs/metric/ruler.py has it; a test holds both to each other.
// A figure is {value, error, power}: the power of the unit of length is 1 for a length, 2 for an area, 0 for an angle.
const degrees = 180 / Math.PI;

const QUANTITIES = {
  distance: { least: 2, most: 2, power: 1, figure: distanceOf, hint: "between two points" },
  height: { least: 2, most: 2, power: 1, figure: heightOf, hint: "of point 2 above point 1" },
  angle: { least: 3, most: 3, power: 0, figure: angleOf, hint: "at point 2" },
  area: { least: 3, most: 40, power: 2, figure: areaOf, hint: "of a flat polygon, corners in order" },
};

function distanceOf([first, second]) {
  const apart = minus(second.position, first.position), length = length3(apart);
  if (length === 0) return [0, 0];
  const covariance = sum(first.covariance, second.covariance), variance = spread(covariance, unit(apart));
  const longer = (trace(covariance) - variance) / (2 * length);
  const poses = page.poseError * Math.min(length, first.distance, second.distance);
  return [Math.max(length - longer, 0), Math.hypot(Math.sqrt(variance), poses)];
}

function heightOf([first, second]) {
  const { direction, error } = page.up, apart = minus(second.position, first.position);
  const value = dot(direction, apart), length = length3(apart);
  const level = Math.sqrt(Math.max(length ** 2 - value ** 2, 0));
  const poses = page.poseError * Math.min(length, first.distance, second.distance);
  const picks = spread(sum(first.covariance, second.covariance), direction);
  return [value, Math.hypot(Math.sqrt(picks), poses, error / degrees * level)];
}

function angleOf([first, corner, last]) {
  const arms = [first, last].map(end => minus(end.position, corner.position)), lengths = arms.map(length3);
  if (Math.min(...lengths) === 0) throw new Error("has two points in the same place");
  const [u, v] = arms.map(unit), sine = length3(crossed(u, v));
  let normal = crossed(u, v);
  if (sine < 1e-9) { // the arms are on one line, so any plane through them will do
    const sizes = u.map(Math.abs), least = sizes.indexOf(Math.min(...sizes));
    normal = crossed(u, [0, 1, 2].map(i => (i === least ? 1 : 0)));
  }
  normal = unit(normal);
  const a = times(crossed(u, normal), 1 / lengths[0]), b = times(crossed(normal, v), 1 / lengths[1]);
  let variance = spread(first.covariance, a) + spread(last.covariance, b) + spread(corner.covariance, minus(times(a, -1), b));
  [first, last].forEach((end, k) => {
    variance += (page.poseError * Math.min(lengths[k], end.distance, corner.distance) / lengths[k]) ** 2;
  });
  return [Math.atan2(sine, dot(u, v)) * degrees, Math.sqrt(variance) * degrees];
}

// Corners from the first one on, and the vector along the normal of their plane that is as long as the area.
function polygonOf(points) {
  const at = points.map(point => minus(point.position, points[0].position));
  const vector = at.reduce((total, a, i) => {
    const c = crossed(a, at[(i + 1) % at.length]);
    return total.map((v, k) => v + c[k] / 2);
  }, [0, 0, 0]);
  return { at, vector };
}

// How far a corner is off the plane that fits best, as {value, error, power}; null if errors explain it.
function unevenness(points) {
  const { at, vector } = polygonOf(points), normal = unit(vector), heights = at.map(a => dot(a, normal));
  const middle = heights.reduce((total, v) => total + v, 0) / heights.length, size = Math.max(...at.map(length3));
  const off = points.map((point, k) => {
    const poses = page.poseError * Math.min(size, point.distance);
    const error = Math.hypot(Math.sqrt(spread(point.covariance, normal)), poses);
    return { value: Math.abs(heights[k] - middle), error, power: 1 };
  });
  return off.filter(each => each.value > 3 * each.error).sort((a, b) => b.value - a.value)[0] || null;
}

function areaOf(points) {
  const { at, vector } = polygonOf(points), n = at.length, value = length3(vector);
  if (value === 0) throw new Error("has no area: its corners are on one line");
  const normal = unit(vector);
  if (sidesCross(at, normal)) throw new Error("has sides that cross each other: pick its corners in order");
  let total = zeros();
  points.forEach((point, i) => {
    const side = times(minus(at[(i + 1) % n], at[(i + n - 1) % n]), 0.5);
    const turn = [[1, 0, 0], [0, 1, 0], [0, 0, 1]].map(axis => crossed(axis, side));
    total = sum(total, product(transposed(turn), product(point.covariance, turn)));
  });
  const variance = spread(total, normal), larger = (trace(total) - variance) / (2 * value);
  const size = Math.max(...at.flatMap(a => at.map(b => length3(minus(a, b)))));
  const poses = 2 * value * page.poseError * Math.min(1, Math.min(...points.map(point => point.distance)) / size);
  return [Math.max(value - larger, 0), Math.hypot(Math.sqrt(variance), poses)];
}

function sidesCross(at, normal) {
  const turn = (a, b, c) => dot(crossed(minus(b, a), minus(c, a)), normal);
  const sides = at.map((a, i) => [a, at[(i + 1) % at.length]]);
  return sides.some(([a, b], i) => sides.slice(i + 2).some(([c, d]) =>
    turn(a, b, c) * turn(a, b, d) < 0 && turn(c, d, a) * turn(c, d, b) < 0));
}

// In scene units or degrees: {value, error, power}, or {why}.
function figureOf(item) {
  const solutions = item.points.map(solved), unsolved = solutions.findIndex(solution => solution.why);
  if (unsolved >= 0) return { why: `point ${unsolved + 1} ${solutions[unsolved].why}` };
  const { figure, power } = QUANTITIES[item.kind];
  try {
    const [value, error] = figure(solutions.map(solution => solution.found));
    return { value, error, power };
  } catch (error) { return { why: `it ${error.message}` }; }
}

// In metres, with the error of the scale; unchanged if the scene has no scale.
function scaled({ value, error, power }) {
  if (!page.scale) return { value, error, power };
  const k = page.scale.metres ** power;
  return { value: value * k, error: Math.hypot(error * k, power * page.scale.error * value * k), power };
}

// What a figure in scene units is more than at an earlier visit, or {why}. In one scene frame, both have one scale,
// whose error counts for the difference alone; the registrations of both visits stretch the whole value.
function differenceOf(now, earlier) {
  const { power } = now;
  if (earlier.frame === page.frame || !power) {
    const stretch = power * Math.hypot(page.registrationError, earlier.registrationError) * earlier.units;
    const value = now.value - earlier.units;
    return scaled({ value, error: Math.hypot(now.error, earlier.unitsError, stretch), power });
  }
  if (!page.scale || !earlier.inMetres) return { why: "in another frame, without metres" };
  const then = scaled(now);
  return { value: then.value - earlier.value, error: Math.hypot(then.error, earlier.error), power };
}

function unitOf(power) {
  if (!power) return "°";
  return (page.scale ? "m" : "scene units") + (power === 2 ? "²" : "");
}

// For people, with the 95 % interval and two digits of it.
function written({ value, error, power }, sign = false) {
  const off = limits.times * error, digits = Math.max(0, Math.min(6, off > 0 ? 1 - Math.floor(Math.log10(off)) : 6));
  const text = value.toFixed(digits), gap = power ? " " : "";
  return `${sign && Number(text) > 0 ? "+" : ""}${text}${gap}${unitOf(power)} ± ${off.toFixed(digits)}${gap}${unitOf(power)}`;
}
