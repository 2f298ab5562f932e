import { getSystemErrorMap } from "node:util";

/** Error codes of the operating system and the resolver; drivers pass them on as `code`. */
const NAMES: ReadonlySet<string> = new Set([
  ...[...getSystemErrorMap().values()].map(([name]) => name),
  "ENOTFOUND",
  "ESERVFAIL",
]);

/**
 * The system's code of a failed connection. Such a failure (network, host, file handles, memory) concerns this machine
 * or the way to the other one, and says nothing about what the other one holds. It may pass, so every connector
 * retries.
 */
export function systemErrorCode(error: unknown): string | undefined {
  const code: unknown = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" && NAMES.has(code) ? code : undefined;
}

/** A server as people write it. A host that begins with a slash is the folder of a Unix socket. */
export function serverAt(host: string, port: number | string): string {
  if (host.startsWith("/")) return `${host} (port ${port})`;
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** The server that Node's error names, by its address. */
export function serverIn(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("address" in error) || !("port" in error)) return undefined;
  return typeof error.address === "string" ? serverAt(error.address, Number(error.port)) : undefined;
}

/** Of these the system says the cause itself. */
const NOBODY_THERE = new Set(["ECONNREFUSED", "ENOENT"]);
const NO_NAME = new Set(["ENOTFOUND", "EAI_AGAIN", "ESERVFAIL", "EAI_FAIL", "EAI_NODATA", "EAI_NONAME"]);
const NO_HANDLES = new Set(["EMFILE", "ENFILE"]);
const ENDED = new Set(["ECONNRESET", "EPIPE", "ECONNABORTED"]);

export function isNobodyThere(code: string): boolean {
  return NOBODY_THERE.has(code);
}

/** Whether no file or connection can be opened, whichever it is. */
export function lacksHandles(code: string): boolean {
  return NO_HANDLES.has(code);
}

export function moreHandles(): string {
  return `The daemon has no file handles left: raise the limit of open files (ulimit -n is ${openFilesMax()}; LimitNOFILE of a systemd unit), and start the daemon again.`;
}

/** Without opening a file to find out. */
function openFilesMax(): string {
  // Otherwise it asks for the names of all addresses.
  Object.assign(process.report, { excludeNetwork: true });
  const report: { readonly userLimits?: { readonly open_files?: { readonly soft?: number | string } } } =
    process.report.getReport();
  return `${report.userLimits?.open_files?.soft ?? "too low"}`;
}

/** What to do about a server that gave no answer, by the system's code; `key`: where the configuration names it. */
export function reachAgain(code: string | undefined, server: string, key: string): string {
  const also = "Millrace tries again by itself.";
  if (code !== undefined && isNobodyThere(code))
    return `Nothing listens at ${server}: start the server there, or correct \`${key}\`. ${also}`;
  if (code !== undefined && NO_NAME.has(code))
    return `The name in ${server} is not known on this machine: correct \`${key}\`, or the resolver. ${also}`;
  if (code !== undefined && lacksHandles(code)) return moreHandles();
  if (code !== undefined && ENDED.has(code))
    return `${server}, or a proxy or firewall in between, ended the connection: look at its log. ${also}`;
  return `${server} gave no answer: look whether the server there runs and is not overloaded, and at the firewall and network in between. ${also}`;
}
