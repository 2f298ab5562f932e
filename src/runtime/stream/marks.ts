/**
 * The messages that Millrace writes into the source's log: the edges of windows, and heartbeats, which belong to no window.
 */
export type Mark = { readonly edge: "low" | "high"; readonly window: string } | { readonly edge: null };

export function encodeMark(mark: Mark): string {
  return JSON.stringify(mark);
}

/** Null for a message with our prefix that this version does not know. */
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
    // The message comes from another version, or from another program with our prefix: it is ignored.
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
