/** Decodes a percent-encoded part of a URL; `refuse` makes the error of one that can't be decoded. */
export function decodePercent(text: string, refuse: (why: string) => Error): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw refuse("has a % that is not followed by two hexadecimal digits (a literal % is written %25)");
  }
}
