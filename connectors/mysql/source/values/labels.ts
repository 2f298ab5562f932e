/**
 * Labels of ENUM and SET in a form that both the catalogue and the log can show: the catalogue has a question mark for each
 * character beyond the first plane of Unicode.
 */

/** Such a character, once the name is text. */
const BEYOND = /[\u{10000}-\u{10ffff}]/gu;
const UNKNOWN = "?";

export function shownLabel(label: string): string {
  return label.replaceAll(BEYOND, UNKNOWN);
}

/** The labels of an ENUM; none if one of them may be ambiguous. */
export function certainLabels(labels: readonly string[]): readonly string[] {
  return labels.some((label) => label.includes(UNKNOWN)) ? [] : labels;
}

/** `enum('a','it''s')`, with nothing else escaped. */
export function labelList(name: string, labels: readonly string[]): string {
  return `${name}(${labels.map((label) => `'${label.replaceAll("'", "''")}'`).join(",")})`;
}
