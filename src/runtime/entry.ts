/** One table in one sink, as a key of a map. */
export function entry(sink: string, tableId: string): string {
  return JSON.stringify([sink, tableId]);
}
