/** SQL's LIKE: `%` is any run of characters, `_` is one. Needs linear space, and never backtracks beyond the last `%`. */

const ANY = 0;
const ONE = 1;

/** Null if the pattern ends in its escape character. */
export function compileLike(pattern: string, escape: string | null): ((text: string) => boolean) | null {
  const parts: (string | typeof ANY | typeof ONE)[] = [];
  let isEscaped = false;
  for (const character of pattern) {
    if (!isEscaped && character === escape) {
      isEscaped = true;
      continue;
    }
    if (!isEscaped && character === "%") parts.push(ANY);
    else parts.push(!isEscaped && character === "_" ? ONE : character);
    isEscaped = false;
  }
  return isEscaped ? null : (text) => matches(parts, Array.from(text));
}

function matches(parts: readonly (string | number)[], text: readonly string[]): boolean {
  let part = 0;
  let at = 0;
  let lastAny = -1;
  let restart = 0;
  while (at < text.length) {
    const wanted = parts[part];
    if (wanted === ANY) {
      lastAny = part++;
      restart = at;
    } else if (wanted !== undefined && (wanted === ONE || wanted === text[at])) {
      part++;
      at++;
    } else if (lastAny >= 0) {
      part = lastAny + 1;
      at = ++restart;
    } else return false;
  }
  while (parts[part] === ANY) part++;
  return part === parts.length;
}
