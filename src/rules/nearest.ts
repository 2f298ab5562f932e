import { distance } from "fastest-levenshtein";

/** The end of a sentence about an unknown word: the nearest known word if there is one, else all of them. */
export function suggestion(word: string, known: readonly string[]): string {
  const nearest = nearestName(word, known);
  if (nearest !== undefined) return `did you mean "${nearest}"?`;
  return known.length === 0 ? "there are none here" : `known here: ${known.join(", ")}`;
}

export function nearestName(word: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const name of known) {
    // Case, `-` and `_` are confused most often, so they do not count.
    const d = distance(plain(word), plain(name));
    if (d < bestDistance && d < name.length) [best, bestDistance] = [name, d];
  }
  return best;
}

function plain(word: string): string {
  return word.toLowerCase().replace(/[-_]/g, "");
}
