// A terminal's screen: what programs print becomes rows of cells. The sequences are those of ECMA-48 and xterm that
// ordinary programs use; what is not known is passed over.

const PALETTE = ['#2a2f33', '#e06c60', '#7fbf7f', '#d9b25f', '#6ea8e0', '#c08bd8', '#5fb8bf', '#d5dadb',
  '#6b747a', '#ff8f83', '#a3e0a3', '#f4d58a', '#95c4f5', '#dcaff0', '#8adbe2', '#ffffff'];
const LINES = { j: '┘', k: '┐', l: '┌', m: '└', n: '┼', q: '─', t: '├', u: '┤', v: '┴', w: '┬', x: '│', a: '▒', '`': '◆', '~': '·' };
const WIDE = /[\u1100-\u115f\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1f64f}\u{1f900}-\u{1f9ff}\u{20000}-\u{3fffd}]/u;
const NARROW = /[\p{Mn}\p{Me}\u200b-\u200f\ufe00-\ufe0f]/u;
const PLAIN = Object.freeze({ fg: '', bg: '', style: '', inverse: false });

function colour(n) {
  if (n < 16) return PALETTE[n];
  if (n > 231) { const grey = 8 + (n - 232) * 10; return `rgb(${grey},${grey},${grey})`; }
  const part = (value) => (value ? 55 + value * 40 : 0);
  const at = n - 16;
  return `rgb(${part(Math.floor(at / 36))},${part(Math.floor(at / 6) % 6)},${part(at % 6)})`;
}

// Return the pen after an SGR sequence.
function drawn(pen, numbers) {
  let next = { ...pen };
  const flag = (letter, on) => { next.style = next.style.replace(letter, '') + (on ? letter : ''); };
  for (let at = 0; at < numbers.length; at++) {
    const n = numbers[at];
    if (n === 0) next = { ...PLAIN };
    else if (n === 1) flag('b', true); else if (n === 2) flag('m', true); else if (n === 3) flag('i', true);
    else if (n === 4) flag('u', true); else if (n === 7) next.inverse = true; else if (n === 9) flag('s', true);
    else if (n === 22) { flag('b', false); flag('m', false); } else if (n === 23) flag('i', false);
    else if (n === 24) flag('u', false); else if (n === 27) next.inverse = false; else if (n === 29) flag('s', false);
    else if (n >= 30 && n <= 37) next.fg = colour(n - 30); else if (n >= 90 && n <= 97) next.fg = colour(n - 82);
    else if (n >= 40 && n <= 47) next.bg = colour(n - 40); else if (n >= 100 && n <= 107) next.bg = colour(n - 92);
    else if (n === 39) next.fg = ''; else if (n === 49) next.bg = '';
    else if (n === 38 || n === 48) {
      const which = n === 38 ? 'fg' : 'bg';
      if (numbers[at + 1] === 5) { next[which] = colour(Math.min(255, numbers[at + 2] || 0)); at += 2; }
      else if (numbers[at + 1] === 2) {
        next[which] = `rgb(${[2, 3, 4].map((i) => Math.min(255, numbers[at + i] || 0)).join(',')})`; at += 4;
      }
    }
  }
  return Object.freeze(next);
}

function span(text, pen, cursor) {
  if (pen === PLAIN && !cursor) return document.createTextNode(text);
  const made = document.createElement('span');
  made.textContent = text;
  const [fg, bg] = pen.inverse ? [pen.bg || '#14181b', pen.fg || '#d5dadb'] : [pen.fg, pen.bg];
  if (fg) made.style.color = fg;
  if (bg) made.style.backgroundColor = bg;
  for (const letter of pen.style) made.classList.add(letter);
  if (cursor) made.classList.add('cursor');
  return made;
}

class Screen {
  // `lone` says that a line feed alone begins a new line, as output that never saw a terminal has it.
  constructor(columns, rows, lone) {
    Object.assign(this, { columns, rows, lone, deepest: 0 });
    this.reset();
  }

  reset() {
    Object.assign(this, { x: 0, y: 0, pen: PLAIN, top: 0, bottom: this.rows - 1, rest: '', kept: null, main: null });
    Object.assign(this, { hidden: false, wrap: true, lines: false, last: ' ' });
    this.cells = Array.from({ length: this.rows }, () => this.blank());
    this.changed = new Set(this.cells.keys());
  }

  blank() { return Array.from({ length: this.columns }, () => [' ', PLAIN]); }

  write(data) {
    const text = this.rest + data;
    this.rest = '';
    for (let at = 0; at < text.length;) {
      const code = text.charCodeAt(at);
      if (code === 27) {
        const taken = this.escape(text, at);
        if (!taken) { if (text.length - at < 65536) this.rest = text.slice(at); return; }
        at += taken;
      } else if (code < 32 || code === 127) { this.control(code); at += 1; }
      else {
        const point = String.fromCodePoint(text.codePointAt(at));
        this.put(point); at += point.length;
      }
    }
  }

  control(code) {
    if (code === 10 || code === 11 || code === 12) { if (this.lone) this.x = 0; this.feed(); }
    else if (code === 13) this.x = 0;
    else if (code === 8) this.x = Math.max(0, Math.min(this.x, this.columns - 1) - 1);
    else if (code === 9) this.x = Math.min(this.columns - 1, (Math.floor(this.x / 8) + 1) * 8);
    else if (code === 14) this.lines = true;
    else if (code === 15) this.lines = false;
  }

  put(point) {
    if (this.lines && LINES[point]) point = LINES[point];
    if (NARROW.test(point)) {
      const cell = this.cells[this.y][Math.max(0, Math.min(this.x, this.columns) - 1)];
      if (cell[0].length < 16) cell[0] += point;
      this.changed.add(this.y);
      return;
    }
    const width = WIDE.test(point) ? 2 : 1;
    if (this.x + width > this.columns) {
      if (this.wrap) { this.x = 0; this.feed(); } else this.x = this.columns - width;
    }
    const row = this.cells[this.y];
    row[this.x] = [point, this.pen];
    if (width === 2) row[this.x + 1] = ['', this.pen];
    this.x += width;
    this.last = point;
    this.deepest = Math.max(this.deepest, this.y);
    this.changed.add(this.y);
  }

  feed() {
    if (this.y === this.bottom) this.scroll(1); else this.y = Math.min(this.rows - 1, this.y + 1);
  }

  scroll(count, from = this.top) {
    const many = Math.min(Math.abs(count), this.bottom - from + 1);
    for (let i = 0; i < many; i++) {
      if (count > 0) { this.cells.splice(from, 1); this.cells.splice(this.bottom, 0, this.blank()); }
      else { this.cells.splice(this.bottom, 1); this.cells.splice(from, 0, this.blank()); }
    }
    for (let row = from; row <= this.bottom; row++) this.changed.add(row);
  }

  // Return how many characters the sequence at `at` has, 0 where its end is not there yet.
  escape(text, at) {
    const next = text[at + 1];
    if (next === undefined) return 0;
    if (next === '[') {
      const found = /^[0-?]*[ -/]*[@-~]/.exec(text.slice(at + 2, at + 258));
      if (!found) return text.length - at < 258 ? 0 : 2;
      this.csi(found[0]);
      return 2 + found[0].length;
    }
    if (']PX^_'.includes(next)) {
      const end = /\x07|\x1b\\/.exec(text.slice(at + 2));
      return end ? 2 + end.index + end[0].length : 0;
    }
    if ('()*+'.includes(next)) {
      if (text[at + 2] === undefined) return 0;
      if (next === '(') this.lines = text[at + 2] === '0';
      return 3;
    }
    if (next === '7') this.keep(); else if (next === '8') this.back();
    else if (next === 'D') this.feed(); else if (next === 'E') { this.x = 0; this.feed(); }
    else if (next === 'M') { if (this.y === this.top) this.scroll(-1); else this.y = Math.max(0, this.y - 1); }
    else if (next === 'c') this.reset();
    return 2;
  }

  keep() { this.kept = [this.x, this.y, this.pen]; }
  back() { [this.x, this.y, this.pen] = this.kept || [0, 0, PLAIN]; }

  csi(text) {
    const final = text[text.length - 1], own = text[0] === '?' || text[0] === '>' || text[0] === '=';
    const numbers = text.slice(own ? 1 : 0, -1).split(/[;:]/).map((n) => (n === '' ? NaN : Math.min(9999, parseInt(n, 10))));
    const n = numbers[0] || 1, row = this.cells[this.y];
    const x = Math.min(this.x, this.columns - 1);
    const within = (value, most) => Math.max(0, Math.min(most, value));
    if (own) { if (text[0] === '?' && 'hl'.includes(final)) this.mode(numbers, final === 'h'); return; }
    switch (final) {
      case 'A': this.y = within(this.y - n, this.rows - 1); break;
      case 'B': case 'e': this.y = within(this.y + n, this.rows - 1); break;
      case 'C': case 'a': this.x = within(x + n, this.columns - 1); break;
      case 'D': this.x = within(x - n, this.columns - 1); break;
      case 'E': this.x = 0; this.y = within(this.y + n, this.rows - 1); break;
      case 'F': this.x = 0; this.y = within(this.y - n, this.rows - 1); break;
      case 'G': case '`': this.x = within(n - 1, this.columns - 1); break;
      case 'd': this.y = within(n - 1, this.rows - 1); break;
      case 'H': case 'f': this.y = within(n - 1, this.rows - 1); this.x = within((numbers[1] || 1) - 1, this.columns - 1); break;
      case 'J': this.erase(numbers[0] || 0); break;
      case 'K': this.clear(this.y, numbers[0] === 1 || numbers[0] === 2 ? 0 : x, numbers[0] === 1 ? x + 1 : this.columns); break;
      case 'X': this.clear(this.y, x, Math.min(this.columns, x + n)); break;
      case 'P': row.splice(x, n); while (row.length < this.columns) row.push([' ', PLAIN]); this.changed.add(this.y); break;
      case '@': for (let i = 0; i < Math.min(n, this.columns); i++) row.splice(x, 0, [' ', PLAIN]); row.length = this.columns; this.changed.add(this.y); break;
      case 'L': if (this.y >= this.top && this.y <= this.bottom) this.scroll(-n, this.y); break;
      case 'M': if (this.y >= this.top && this.y <= this.bottom) this.scroll(n, this.y); break;
      case 'S': this.scroll(n); break;
      case 'T': this.scroll(-n); break;
      case 'b': for (let i = 0; i < Math.min(n, this.columns * this.rows); i++) this.put(this.last); break;
      case 'm': this.pen = drawn(this.pen, numbers.map((one) => one || 0)); break;
      case 'r': {
        const top = n - 1, bottom = (numbers[1] || this.rows) - 1;
        if (top < bottom && bottom < this.rows) { this.top = top; this.bottom = bottom; this.x = this.y = 0; }
        break;
      }
      case 's': this.keep(); break;
      case 'u': this.back(); break;
      default:
    }
  }

  mode(numbers, on) {
    for (const n of numbers) {
      if (n === 25) this.hidden = !on;
      else if (n === 7) this.wrap = on;
      else if (n === 47 || n === 1047 || n === 1049) {
        if (on && !this.main) { this.keep(); this.main = this.cells; this.cells = Array.from({ length: this.rows }, () => this.blank()); }
        else if (!on && this.main) { this.cells = this.main; this.main = null; this.back(); }
        this.changed = new Set(this.cells.keys());
      }
    }
  }

  erase(how) {
    if (how === 0) { this.clear(this.y, Math.min(this.x, this.columns - 1), this.columns); for (let row = this.y + 1; row < this.rows; row++) this.clear(row, 0, this.columns); }
    else if (how === 1) { for (let row = 0; row < this.y; row++) this.clear(row, 0, this.columns); this.clear(this.y, 0, Math.min(this.x, this.columns - 1) + 1); }
    else for (let row = 0; row < this.rows; row++) this.clear(row, 0, this.columns);
  }

  clear(row, from, to) {
    const pen = this.pen.bg ? Object.freeze({ ...PLAIN, bg: this.pen.bg }) : PLAIN;
    for (let x = from; x < to; x++) this.cells[row][x] = [' ', pen];
    this.changed.add(row);
  }

  // Put what changed into `rows`, one element a row.
  show(rows) {
    if (this.shown !== undefined) this.changed.add(this.shown);
    this.changed.add(this.y);
    for (const number of this.changed) {
      const row = this.cells[number], parts = [];
      const cursor = !this.hidden && number === this.y ? Math.min(this.x, this.columns - 1) : -1;
      let text = '', pen = PLAIN;
      const flush = () => { if (text) parts.push(span(text, pen, false)); text = ''; };
      row.forEach(([point, own], x) => {
        if (x === cursor) { flush(); parts.push(span(point || ' ', own, true)); return; }
        if (own !== pen) { flush(); pen = own; }
        text += point;
      });
      flush();
      rows[number].replaceChildren(...parts);
    }
    this.shown = this.y;
    this.changed.clear();
  }

  text() { return this.cells.map((row) => row.map(([point]) => point).join('').trimEnd()).join('\n').trimEnd(); }
}

// Return what is left of a line when all its carriage returns have been obeyed.
function settled(line) {
  const seen = line.replace(/\r{1,9}$/, '');
  return seen.slice(seen.lastIndexOf('\r') + 1);
}

// Put a text with colours into an element; everything but colours is left out of it.
function paint(text, into) {
  let pen = PLAIN;
  for (const part of text.split(/(\x1b\[[0-9;:]*m)/)) {
    const found = /^\x1b\[([0-9;:]*)m$/.exec(part);
    if (found) pen = drawn(pen, found[1].split(/[;:]/).map((n) => parseInt(n, 10) || 0));
    else {
      const left = part.replace(/\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()][0-9A-Za-z]|\x1b[^[\]]?/g, '')
        .split('\n').map(settled).join('\n').replace(/[\x00-\x08\x0b-\x1f\x7f]/g, '');
      if (left) into.append(span(left, pen.style || pen.fg || pen.bg || pen.inverse ? pen : PLAIN, false));
    }
  }
}
