import { isSecretName, PUBLIC_NAMES, type Secrets, urlSecrets } from "./secrets.ts";

/** Addresses that are secrets whole: who knows one may write to it. */
const SECRET_URLS = new Set(["webhook"]);

/** Whether a value, as the file has it, is a password itself and not the name of a variable or of a file that has it. */
export function holdsSecret(path: readonly string[], text: string): boolean {
  const literal = text.replaceAll(/\$\{[^}]*\}/g, "");
  const key = keyOf(path);
  if (isSecretName(key) || SECRET_URLS.has(key)) return literal !== "";
  return urlSecrets(literal).some((secret) => secret !== "");
}

/**
 * Registers what is secret in one value of the config: passwords of URLs, keys that are named like secrets, and whatever
 * else came from a variable or a secret file.
 */
export function registerSecrets(
  secrets: Secrets,
  path: readonly string[],
  text: string,
  inserted: readonly string[],
): void {
  const key = keyOf(path);
  if (isSecretName(key)) secrets.add(text);
  if (SECRET_URLS.has(key) && URL.canParse(text)) addWhole(secrets, new URL(text));
  if (text.includes("://")) {
    secrets.addFromUrl(text);
    // Host, port and database of a URL that can be read are no secrets; of one that can't, anything may be.
    if (URL.canParse(text)) return;
  }
  if (!PUBLIC_NAMES.has(key)) for (const value of inserted) secrets.add(value);
}

function keyOf(path: readonly string[]): string {
  return path.findLast((name) => !/^\d+$/.test(name)) ?? "";
}

/** Also without its host, and without the user's part that no request line has. */
function addWhole(secrets: Secrets, { href, pathname, search }: URL): void {
  for (const part of [href, `${pathname}${search}`, pathname]) if (part.length > 1) secrets.add(part);
}
