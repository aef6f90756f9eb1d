// Reads comma-separated values (RFC 4180); semicolons as well, which spreadsheets
// write in some countries.

/** The cells of each line. */
export function parseCsv(text) {
  const clean = text.replace(/^\ufeff/, '').replace(/\r\n?/g, '\n');
  const firstLine = clean.split('\n', 1)[0];
  const separator = firstLine.split(';').length > firstLine.split(',').length ? ';' : ',';
  const lines = [];
  let cells = [];
  let cell = '';
  let inQuotes = false;
  const endCell = () => { cells.push(cell); cell = ''; };
  const endLine = () => { endCell(); lines.push(cells); cells = []; };
  for (let i = 0; i < clean.length; i += 1) {
    const letter = clean[i];
    if (inQuotes) {
      if (letter !== '"') cell += letter;
      else if (clean[i + 1] === '"') { cell += '"'; i += 1; } else inQuotes = false;
    } else if (letter === '"' && cell === '') inQuotes = true;
    else if (letter === separator) endCell();
    else if (letter === '\n') endLine();
    else cell += letter;
  }
  if (cell || cells.length) endLine();
  return lines;
}
