/** What Millrace writes into the source's log: the edges of windows, and heartbeats that belong to none. */
export type Mark = { readonly edge: "low" | "high"; readonly window: string } | { readonly edge: null };

export function encodeMark(mark: Mark): string {
  return JSON.stringify(mark);
}

/** Null for a message under our prefix that this version does not know. */
export function decodeMark(content: Uint8Array): Mark | null {
  try {
    const value: unknown = JSON.parse(Buffer.from(content.buffer, content.byteOffset, content.length).toString("utf8"));
    if (typeof value !== "object" || value === null || !("edge" in value)) return null;
    if (value.edge === null) return { edge: null };
    if ((value.edge === "low" || value.edge === "high") && "window" in value && typeof value.window === "string") {
      return { edge: value.edge, window: value.window };
    }
    return null;
  } catch (error) {
    // Another version's mark, or another program under our prefix: not ours to understand.
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
