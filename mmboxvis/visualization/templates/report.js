'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const tip = document.getElementById('tip');
const COLORS = ['#2563a8', '#d1602b', '#2f8f5b', '#8a4fa3', '#b58a12', '#6b7280'];

function showTip(event, text, color) {
  tip.replaceChildren();
  if (color) {
    const dot = document.createElement('i');
    dot.style.background = color;
    tip.append(dot);
  }
  tip.append(text);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8)) + 'px';
  tip.style.top = Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 8)) + 'px';
}

function hideTip() {
  tip.hidden = true;
}

function make(name, attributes, parent, text) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

function format(value) {
  return Math.abs(value) >= 1000 ? String(Math.round(value)) : String(+value.toPrecision(3));
}

// series: {name: [xs, ys]}; range: [x0, x1, y0, y1]
function lineChart(target, series, range, labels) {
  const [w, h, left, right, top, bottom] = [360, 230, 40, 10, 10, 34];
  const [x0, x1, y0, y1] = range;
  const px = x => left + (x - x0) / (x1 - x0 || 1) * (w - left - right);
  const py = y => h - bottom - (y - y0) / (y1 - y0 || 1) * (h - top - bottom);
  target.replaceChildren();
  const svg = make('svg', {viewBox: `0 0 ${w} ${h}`}, target);
  for (let i = 0; i <= 4; i++) {
    const x = x0 + (x1 - x0) * i / 4, y = y0 + (y1 - y0) * i / 4;
    make('line', {x1: left, x2: w - right, y1: py(y), y2: py(y), stroke: 'currentColor', 'stroke-opacity': 0.13}, svg);
    make('text', {x: left - 6, y: py(y) + 4, 'text-anchor': 'end'}, svg, format(y));
    make('text', {x: px(x), y: h - bottom + 15, 'text-anchor': 'middle'}, svg, format(x));
  }
  make('text', {x: (left + w - right) / 2, y: h - 4, 'text-anchor': 'middle'}, svg, labels[0]);
  const legend = document.createElement('div');
  legend.className = 'legend';
  const names = Object.keys(series);
  names.forEach((name, i) => {
    const [xs, ys] = series[name];
    const color = COLORS[i % COLORS.length];
    const points = xs.map((x, k) => `${px(x).toFixed(1)},${py(ys[k]).toFixed(1)}`).join(' ');
    make('polyline', {points, fill: 'none', stroke: color, 'stroke-width': 1.8, 'stroke-linejoin': 'round'}, svg);
    if (xs.length < 20) xs.forEach((x, k) => make('circle', {cx: px(x), cy: py(ys[k]), r: 2.5, fill: color}, svg));
    const entry = document.createElement('span');
    const line = document.createElement('i');
    line.style.background = color;
    entry.append(line, name);
    legend.append(entry);
  });
  target.append(legend);
  const cursor = make('line', {y1: top, y2: h - bottom, stroke: 'currentColor', 'stroke-opacity': 0.5, visibility: 'hidden'}, svg);
  svg.addEventListener('mousemove', event => {
    const box = svg.getBoundingClientRect();
    const x = x0 + ((event.clientX - box.left) / box.width * w - left) / (w - left - right) * (x1 - x0);
    if (x < x0 || x > x1) return hideTip();
    const lines = names.map(name => {
      const [xs, ys] = series[name];
      let best = 0;
      for (let k = 1; k < xs.length; k++) if (Math.abs(xs[k] - x) < Math.abs(xs[best] - x)) best = k;
      return `${name}: ${format(ys[best])}`;
    });
    cursor.setAttribute('x1', px(x));
    cursor.setAttribute('x2', px(x));
    cursor.setAttribute('visibility', 'visible');
    showTip(event, [`${labels[0]} ${format(x)}`, ...lines].join('\n'));
  });
  svg.addEventListener('mouseleave', () => {
    cursor.setAttribute('visibility', 'hidden');
    hideTip();
  });
}

function drawPrecision(name) {
  const recall = Array.from({length: 101}, (_, i) => i / 100);
  const series = {};
  for (const [level, values] of Object.entries(data.precision[name])) series[level] = [recall, values];
  lineChart(document.getElementById('precision'), series, [0, 1, 0, 1], ['recall']);
}

if (Object.keys(data.precision).length) {
  const select = document.getElementById('class');
  select.addEventListener('change', () => drawPrecision(select.value));
  drawPrecision('');
}

for (const target of document.querySelectorAll('.training')) {
  const series = data.training[+target.dataset.chart].series;
  const xs = Object.values(series).flatMap(s => s[0]), ys = Object.values(series).flatMap(s => s[1]);
  const range = [Math.min(...xs), Math.max(...xs), Math.min(0, ...ys), Math.max(...ys, 1e-9)];
  lineChart(target, series, range, ['iteration']);
}

// position in the legend of the track at a place (0 to 1) of a picture, -1 where there is none
function trackAt(panel, frame, x, y) {
  const [height, width] = panel.map_size;
  const place = Math.min(height - 1, Math.floor(y * height)) * width + Math.min(width - 1, Math.floor(x * width));
  const runs = panel.maps[frame];
  let end = 0;
  for (let k = 0; k < runs.length; k += 2) {
    end += runs[k + 1];
    if (place < end) return runs[k] - 1;
  }
  return -1;
}

for (const article of document.querySelectorAll('.clip')) {
  const video = data.videos[+article.dataset.video];
  const images = [...article.querySelectorAll('img')];
  const [button, slider, output] = ['button', 'input', 'output'].map(name => article.querySelector(name));
  let timer = null, pointer = null;
  const point = () => {
    if (!pointer) return;
    const {event, image} = pointer;
    const panel = video.panels[+image.dataset.panel];
    const box = image.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    const found = x < 0 || y < 0 || x >= 1 || y >= 1 ? -1 : trackAt(panel, +slider.value, x, y);
    if (found < 0) hideTip();
    else showTip(event, panel.tracks[found].caption, panel.tracks[found].color);
  };
  const show = frame => {
    slider.value = frame;
    images.forEach((image, i) => { image.src = video.panels[i].pictures[frame]; });
    output.textContent = `frame ${video.steps[frame]}`;
    article.dataset.frame = frame;
    point();
  };
  button.addEventListener('click', () => {
    if (timer) {
      clearInterval(timer);
      timer = null;
    } else {
      timer = setInterval(() => show((+slider.value + 1) % video.steps.length), 125);
    }
    button.textContent = timer ? 'Pause' : 'Play';
  });
  slider.addEventListener('input', () => show(+slider.value));
  for (const image of images) {
    image.addEventListener('mousemove', event => { pointer = {event, image}; point(); });
    image.addEventListener('mouseleave', () => { pointer = null; hideTip(); });
  }
  show(0);
}
document.documentElement.dataset.ready = 'yes';
