/** URLs of the command line: which kind of source or sink they name, and how the config file has them without secrets. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { SinkConnector, SourceConnector } from "../../config/connectors.ts";
import { urlSecrets } from "../../config/secrets/secrets.ts";
import type { ByUrl, UrlKeys } from "../../core/contracts/connector.ts";
import { makeFolder, writeWhole } from "../../core/files.ts";
import { cliError } from "../errors.ts";

/** What a URL of the command line says of a source or a sink. */
export interface Named<Connector> {
  readonly kind: string;
  readonly connector: Connector;
  readonly keys: UrlKeys;
}

export async function sourceByUrl(option: string, url: string): Promise<Named<SourceConnector>> {
  const { connectors } = await import("../../../connectors/registry.ts");
  return await namedBy(option, url, connectors.sourceKinds, (kind) => connectors.source(kind));
}

export async function sinkByUrl(option: string, url: string): Promise<Named<SinkConnector>> {
  const { connectors } = await import("../../../connectors/registry.ts");
  return await namedBy(option, url, connectors.sinkKinds, (kind) => connectors.sink(kind));
}

/** The first kind that knows the URL. No message has the URL itself: it may hold a password. */
async function namedBy<Connector extends { readonly byUrl: ByUrl | null }>(
  option: string,
  url: string,
  kinds: readonly string[],
  load: (kind: string) => Promise<Connector>,
): Promise<Named<Connector>> {
  const forms: string[] = [];
  for (const kind of kinds) {
    const connector = await load(kind);
    const keys = connector.byUrl?.keys(url) ?? null;
    if (typeof keys === "string") throw cliError("MR1110", `${option} of kind ${kind}: ${keys}`);
    if (keys !== null) return { kind, connector, keys };
    if (connector.byUrl !== null) forms.push(`  ${kind}: ${connector.byUrl.forms.join(", ")}`);
  }
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(url)?.[1]?.toLowerCase();
  const what = scheme === undefined ? "a value without a known scheme or ending" : `${scheme}://`;
  const hint = `known are:\n${forms.join("\n")}`;
  throw cliError("MR1110", `${option}: no kind is known for ${what}`, { hint });
}

/** A value of the config file as it is written, and the secrets that go into separate files. */
export interface WrittenUrl {
  readonly text: string;
  /** The environment variable that holds the URL, or null. */
  readonly variable: string | null;
  readonly secret: Secret | null;
}

export interface Secret {
  /** The file's path beside the config file. */
  readonly file: string;
  readonly value: string;
}

/** Variables that shells and npm set hold command lines, not URLs. */
const VARIABLE = /^(?!npm_)[A-Za-z][A-Za-z0-9_]*$/;

/**
 * How to write a URL into the config file: as the variable that holds it, else the URL itself, with each secret in it
 * replaced by a reference to a file that only its owner can read.
 */
export function writtenUrl(
  url: string,
  file: string,
  environment: Readonly<Record<string, string | undefined>>,
): WrittenUrl {
  const variable = Object.keys(environment)
    .toSorted()
    .find((name) => VARIABLE.test(name) && environment[name] === url);
  if (variable !== undefined) return { text: `\${${variable}}`, variable, secret: null };
  const [secret, ...more] = new Set(urlSecrets(url).filter((one) => one !== ""));
  if (secret === undefined) return { text: literal(url), variable: null, secret: null };
  const value = more.length > 0 || url.split(secret).length > 2 ? url : secret;
  const text = url.split(value).map(literal).join(`\${file:${file}}`);
  return { text, variable: null, secret: { file, value } };
}

/** Escapes a literal `${`. */
function literal(text: string): string {
  return text.replaceAll("${", "$${");
}

/** Writes secrets into files that only their owner can read and that git ignores. A file with another secret is that of another configuration. */
export function writeSecrets(folder: string, secrets: readonly Secret[]): void {
  const texts = secrets.map(({ file, value }) => ({ path: join(folder, file), text: `${value}\n` }));
  for (const { path, text } of texts) if (holdsOther(path, text)) throw otherSecret(path);
  for (const { path, text } of texts) {
    makeFolder(dirname(path), 0o700);
    writeFileSync(join(dirname(path), ".gitignore"), "*\n");
    writeWhole(path, text, 0o600, () => {
      if (holdsOther(path, text)) throw otherSecret(path);
    });
  }
}

function holdsOther(path: string, text: string): boolean {
  return existsSync(path) && readFileSync(path, "utf8") !== text;
}

function otherSecret(path: string): Error {
  return cliError("MR1112", `${path} holds another password, which another config may need; nothing was written`, {
    hint: "Name this daemon otherwise (--name), or remove that file.",
  });
}
