/** How many values one statement names, and how many bytes of them: servers bound a statement's size, often for good. */
const COUNT_MAX = 500;
const BYTES_MAX = 150_000;

/**
 * The literals, or conditions, in lists for one statement each. One that is larger by itself has its own. `between`: the text that
 * joins them.
 */
export function* literalLists(
  literals: Iterable<string>,
  bytesMax = BYTES_MAX,
  between = "",
): Generator<readonly string[]> {
  let list: string[] = [];
  let byteCount = 0;
  for (const literal of literals) {
    const more = Buffer.byteLength(literal) + between.length;
    if (list.length === COUNT_MAX || (list.length > 0 && byteCount + more > bytesMax)) {
      yield list;
      list = [];
      byteCount = 0;
    }
    list.push(literal);
    byteCount += more;
  }
  if (list.length > 0) yield list;
}
