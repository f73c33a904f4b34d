// Returns what keeps people from using this page: a list of sentences, empty if nothing was found.
// Names and landmarks by WCAG 2.2 1.1.1, 2.4.2, 3.1.1 and 4.1.2; contrast by 1.4.3; targets by 2.5.8.
const found = [];
const say = (what, node) => found.push(`${what}: ${node.outerHTML.slice(0, 120)}`);
const shown = node => node.checkVisibility({ opacityProperty: false, visibilityProperty: true }) &&
  !node.closest('[aria-hidden=true], [inert]') && node.getClientRects().length > 0;

if (!document.documentElement.lang) say('the language is not given', document.documentElement);
if (!document.title.trim()) say('the title is empty', document.head);
const headings = [...document.querySelectorAll('h1, h2, h3, h4')].filter(shown);
if (headings.filter(each => each.tagName === 'H1').length !== 1) say('there is not one main heading', document.body);
headings.forEach((each, i) => {
  if (i && +each.tagName[1] > +headings[i - 1].tagName[1] + 1) say('a level of headings is left out', each);
});
if (document.querySelector('meta[name=viewport][content*="user-scalable=no"]')) say('zooming is prevented', document.head);

const nameOf = node => [
  node.getAttribute('aria-label'), node.title, node.alt, node.value && node.type === 'submit' ? node.value : '',
  ...(node.getAttribute('aria-labelledby') || '').split(' ').map(id => id && document.getElementById(id)?.textContent),
  ...[...(node.labels || [])].map(label => label.textContent),
  /^(A|BUTTON|SUMMARY)$/.test(node.tagName) ? node.textContent : '', node.querySelector?.('title')?.textContent,
].some(text => text && text.trim());
for (const node of document.querySelectorAll(
  'a[href], button, summary, input:not([type=hidden]), select, textarea, video, canvas, iframe, svg')) {
  if (shown(node) && !nameOf(node) && !node.closest('button, a')) say('has no name', node);
}
for (const node of document.querySelectorAll('img')) if (!node.hasAttribute('alt')) say('has no alternative text', node);
const ids = [...document.querySelectorAll('[id]')].map(node => node.id);
for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) < i))) found.push(`the ID ${id} is used twice`);

const channels = text => (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
const over = (top, below) => {
  const alpha = top[3] ?? 1;
  return [0, 1, 2].map(i => top[i] * alpha + below[i] * (1 - alpha));
};
const light = colour => {
  const [r, g, b] = colour.map(value => value / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const backgroundOf = node => {
  const layers = [];
  for (let each = node; each; each = each.parentElement) {
    const style = getComputedStyle(each);
    if (style.backgroundImage !== 'none') return null;  // a picture or gradient cannot be judged here
    layers.push(channels(style.backgroundColor));
  }
  const page = matchMedia('(prefers-color-scheme: dark)').matches && getComputedStyle(document.documentElement)
    .colorScheme.includes('dark') ? [18, 18, 18] : [255, 255, 255];
  return layers.reverse().reduce((below, top) => over(top, below), page);
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const judged = new Set();
while (texts.nextNode()) {
  const node = texts.currentNode.parentElement;
  if (!texts.currentNode.nodeValue.trim() || judged.has(node) || !shown(node) || node.closest('svg, :disabled')) continue;
  judged.add(node);
  const background = backgroundOf(node), style = getComputedStyle(node);
  if (!background) continue;
  const [a, b] = [light(over(channels(style.color), background)), light(background)].sort((x, y) => y - x);
  const large = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700;
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < (large ? 3 : 4.5)) say(`the contrast is ${ratio.toFixed(2)}`, node);
}
for (const node of document.querySelectorAll('button, summary, select, input:not([type=hidden])')) {
  const box = node.getBoundingClientRect();
  if (shown(node) && (box.width < 24 || box.height < 24) && !node.closest('label')) say('is smaller than 24 px', node);
}
if (matchMedia('(prefers-reduced-motion: reduce)').matches) {
  for (const node of document.querySelectorAll('video')) if (!node.paused) say('moves although less motion was asked for', node);
  for (const each of document.getAnimations()) if (each.playState === 'running') say('moves although less motion was asked for', each.effect.target);
}
return found;
