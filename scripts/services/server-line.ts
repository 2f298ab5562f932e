/** Several lines of one server: a run has the first, or the one that an environment variable names. */
export interface ServerLine {
  /** 8.4, 10.11 */
  readonly version: string;
  readonly image: string;
}

export function isLineChosen(variable: string): boolean {
  return (process.env[variable] ?? "") !== "";
}

export function chosenLine<L extends Pick<ServerLine, "version">>(
  what: string,
  variable: string,
  lines: readonly L[],
  wanted = process.env[variable] ?? "",
): L {
  const found = lines.find(({ version }) => wanted === "" || version === wanted);
  if (found !== undefined) return found;
  const known = lines.map(({ version }) => version).join(", ");
  throw new Error(`${variable}=${wanted}: there is no such ${what} here; known are ${known}`);
}

export function versionOf(image: string): string {
  return image.replace(/^.*:/, "");
}

/** Compares numbers: 10.11 is later than 10.7. */
export function isFrom(line: ServerLine, first: string): boolean {
  const [own, wanted] = [line.version, first].map((text) => text.split(".").map(Number));
  const at = wanted!.findIndex((part, i) => part !== (own![i] ?? 0));
  return at < 0 || (own![at] ?? 0) > wanted![at]!;
}
