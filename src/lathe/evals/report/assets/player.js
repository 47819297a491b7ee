// Small pieces of a page, and the replay of a terminal.

// Return an element. `what` is its name and classes; texts among `inside` are only ever text.
function el(what, attributes, ...inside) {
  const [name, ...classes] = what.split('.');
  const made = document.createElement(name);
  if (classes.length) made.className = classes.join(' ');
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, '');
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...inside.filter((one) => one !== null && one !== undefined && one !== false && one !== ''));
  return made;
}

async function unpacked(id) {
  const packed = atob(document.getElementById(id).textContent);
  const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return JSON.parse(await new Response(stream).text());
}

const clock = (seconds, fine) => `${Math.floor(seconds / 60)}:${fine ? (seconds % 60).toFixed(1).padStart(4, '0') : String(Math.floor(seconds % 60)).padStart(2, '0')}`;
const PAUSE = 2;

// Return a player of a recording: {width, height, events: [[seconds, text], ...], title}.
function player(recording) {
  const { width, height, events } = recording;
  const lone = !events.some(([, text]) => text.includes('\r\n'));
  const screen = new Screen(width, height, lone);
  const rows = Array.from({ length: height }, () => el('div'));
  const glass = el('div.glass', { tabindex: 0, role: 'img', 'aria-label': 'Terminal' }, el('pre', null, ...rows));
  const slider = el('input', { type: 'range', min: 0, step: 'any', value: 0, 'aria-label': 'Position' });
  const time = el('span.time');
  const play = el('button', { type: 'button', 'aria-label': 'Play' }, '▶ Play');
  const speed = el('select', { 'aria-label': 'Speed' }, ...[0.5, 1, 2, 4, 8, 16].map((n) => el('option', { value: n, selected: n === 1 }, `${n}×`)));
  const skip = el('input', { type: 'checkbox', checked: true });
  let times = [], end = 0, now = 0, next = 0, running = false, before = 0;

  function retime() {
    let at = 0, last = 0;
    times = events.map(([t]) => { at += skip.checked ? Math.min(PAUSE, t - last) : t - last; last = t; return at; });
    end = at;
    slider.max = Math.max(end, 0.001);
  }
  function show() {
    screen.show(rows);
    slider.value = now;
    time.textContent = `${clock(now, end < 60)} / ${clock(end, end < 60)}`;
  }
  function seek(to) {
    if (to < now) { screen.reset(); next = 0; }
    now = Math.max(0, Math.min(end, to));
    while (next < events.length && times[next] <= now) screen.write(events[next++][1]);
    show();
  }
  function run(on) {
    running = on;
    play.textContent = on ? '❚❚ Pause' : '▶ Play';
    play.setAttribute('aria-label', on ? 'Pause' : 'Play');
    if (on) {
      if (now >= end) { now = end; seek(-1); seek(0); }
      before = performance.now();
      requestAnimationFrame(frame);
    }
  }
  function frame(at) {
    if (!running || !play.isConnected) return;
    const passed = Math.max(0, (at - before) / 1000) * Number(speed.value);
    before = at;
    seek(now + passed);
    if (now >= end) run(false); else requestAnimationFrame(frame);
  }
  play.addEventListener('click', () => run(!running));
  slider.addEventListener('input', () => seek(Number(slider.value)));
  skip.addEventListener('change', () => { const part = next; retime(); now = part ? times[part - 1] : 0; show(); });
  glass.addEventListener('keydown', (event) => {
    if (event.key === ' ') { event.preventDefault(); run(!running); }
    if (event.key === 'ArrowRight') seek(now + 5);
    if (event.key === 'ArrowLeft') seek(now - 5);
  });
  retime();
  seek(end);
  rows.forEach((row, at) => { row.hidden = at > Math.max(9, screen.deepest); });
  return el('div', null,
    recording.title && el('p.note', null, recording.title),
    el('div.player', null, glass, el('div.controls', null, play, slider, time, speed, el('label', null, skip, 'skip pauses'))));
}
