// Makes elements. Text is always text: nothing here parses HTML.

/** Makes an element: h('a', { href: '/', onclick: f }, 'text', otherElement). */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'class') element.className = value;
    else if (name === 'value' || name === 'checked' || name === 'indeterminate') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

let lastId = 0;

/** Returns an id that no other element has. */
export const newId = () => `e${++lastId}`;

const paths = {
  warning: 'M12 3 2.5 20h19L12 3Zm0 6.5v5m0 2.6v.1',
  check: 'm4.5 12.5 5 5 10-11',
  shield: 'M12 3 5 5.8v5.4c0 4.6 2.9 8 7 9.8 4.1-1.8 7-5.2 7-9.8V5.8L12 3Z',
  people: 'M9 11.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7Zm-6.5 8c0-3.3 2.9-5.5 6.5-5.5s6.5 2.2 6.5 5.5M16 4.9a3.5 3.5 0 0 1 0 6.3m2.5 3.3c2 .8 3.2 2.6 3.2 5',
  mail: 'M3.5 6h17v12h-17V6Zm0 1 8.5 6.5L20.5 7',
  clock: 'M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18Zm0-14v5.2l3.4 2',
  person: 'M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8Zm-7.5 8.5c0-3.8 3.4-6 7.5-6s7.5 2.2 7.5 6',
  device: 'M4 5h16v11H4V5Zm5 15h6m-3-4v4',
  phone: 'M7.5 3h9v18h-9V3Zm3.5 15h2',
  menu: 'M4 7h16M4 12h16M4 17h16',
  search: 'M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13Zm5-1.8L20.5 20',
  out: 'M14 4h5v16h-5M4 12h11m-4-4.5 4.5 4.5L11 16.5',
  info: 'M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18Zm0-10v5.5m0-9v.1',
};

/** Makes an icon that screen readers pass over. */
export function icon(name) {
  const ns = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(ns, 'svg');
  for (const [key, value] of Object.entries({ viewBox: '0 0 24 24', class: `icon icon-${name}`, 'aria-hidden': 'true' })) svg.setAttribute(key, value);
  const path = document.createElementNS(ns, 'path');
  path.setAttribute('d', paths[name]);
  svg.append(path);
  return svg;
}

/** Text for screen readers alone. */
export const unseen = (text) => h('span', { class: 'unseen' }, text);
