// Shows times in the reader's zone. The exact instant is there on hover.

import { h } from './dom.js';

// The page is in English: its dates are, too, in the English the reader prefers.
const locale = navigator.languages.find((language) => language.startsWith('en')) ?? 'en-GB';
const short = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short' });
const long = new Intl.DateTimeFormat(locale, { dateStyle: 'full', timeStyle: 'long' });

export const number = (value) => new Intl.NumberFormat(locale).format(Number(value));

/** `1 agent`, `2 agents`. */
export const count = (value, one, many = `${one}s`) => `${number(value)} ${Number(value) === 1 ? one : many}`;

/** The instant as text, such as `30 Nov 2026, 21:47`. */
export const instant = (iso) => short.format(new Date(iso));

/** A <time> element, or a dash for what never was. */
export function when(iso, never = '–') {
  if (!iso) return never;
  const at = new Date(iso);
  return h('time', { datetime: iso, title: `${long.format(at)}\n${at.toISOString()}` }, short.format(at));
}

/** Seconds of a duration in the API's JSON, such as `604800s`. */
export const secondsOf = (duration) => Number.parseFloat(duration ?? '0');

const units = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]];

/** `7 days`, or the two largest units: `6 days 23 hours`. */
export function inWords(seconds) {
  let rest = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [name, size] of units) {
    const amount = Math.floor(rest / size);
    if (amount > 0 && parts.length < 2) parts.push(count(amount, name));
    else if (parts.length) break;
    rest -= amount * size;
  }
  return parts.join(' ') || '0 seconds';
}

/** The largest unit that a duration is a whole number of. */
export function wholeUnits(seconds) {
  const [name, size] = units.find(([, unit]) => seconds >= unit && seconds % unit === 0) ?? units.at(-1);
  return { amount: seconds / size, unit: name };
}

export const unitSeconds = Object.fromEntries(units);
