import { chmodSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { isSecretName } from "../../config/secrets/secrets.ts";
import { makeFolder } from "../../core/folder.ts";

/** A value of the config file: as it is written, and what has to lie in a file of its own for it. */
export interface WrittenUrl {
  readonly text: string;
  /** The variable of the environment that holds the URL, or null. */
  readonly variable: string | null;
  readonly secret: Secret | null;
}

export interface Secret {
  /** Beside the config file. */
  readonly file: string;
  readonly value: string;
}

/** What shells and npm set themselves holds command lines, not addresses. */
const VARIABLE = /^(?!npm_)[A-Za-z][A-Za-z0-9_]*$/;

/**
 * How a URL stands in the config file: by the variable that it was given from, else as it is, with what is secret in it
 * replaced by a reference to a file that its owner alone can read.
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
  const [secret, ...more] = secretsIn(url);
  if (secret === undefined) return { text: literal(url), variable: null, secret: null };
  const value = more.length > 0 || url.split(secret).length > 2 ? url : secret;
  const text = url.split(value).map(literal).join(`\${file:${file}}`);
  return { text, variable: null, secret: { file, value } };
}

/** As `Secrets.addFromUrl` finds them: the password, and parameters that are named like one. */
function secretsIn(url: string): readonly string[] {
  const password = /:\/\/[^/:@?#]*:(.*)@/s.exec(url)?.[1];
  const parameters = [...url.matchAll(/[?&]([^=&#]+)=([^&#]*)/g)]
    .filter(([, name = ""]) => isSecretName(name))
    .map(([, , value = ""]) => value);
  return [...(password === undefined ? [] : [password]), ...parameters].filter((value) => value !== "");
}

/** A literal `${` stays one. */
function literal(text: string): string {
  return text.replaceAll("${", "$${");
}

/** Readable by their owner only, and kept out of version control. */
export function writeSecrets(folder: string, secrets: readonly Secret[]): void {
  for (const { file, value } of secrets) {
    const path = join(folder, file);
    makeFolder(dirname(path), 0o700);
    writeFileSync(join(dirname(path), ".gitignore"), "*\n");
    writeFileSync(path, `${value}\n`, { mode: 0o600 });
    // The mode above counts for new files only.
    chmodSync(path, 0o600);
  }
}
