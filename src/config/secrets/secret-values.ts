import { isSecretName, PUBLIC_NAMES, type Secrets, urlSecrets } from "./secrets.ts";

/** Keys whose whole URL is a secret: everybody who knows it can post there. */
const SECRET_URLS = new Set(["webhook"]);

/** Whether a value in the file is itself a password, and not the name of a variable or file that holds it. */
export function holdsSecret(path: readonly string[], text: string): boolean {
  const literal = text.replaceAll(/\$\{[^}]*\}/g, "");
  const key = keyOf(path);
  if (isSecretName(key) || SECRET_URLS.has(key) || path.at(-2) === "headers") return literal !== "";
  return urlSecrets(literal).some((secret) => secret !== "");
}

/**
 * Registers the secrets in one value of the config: passwords in URLs, values of keys that are named like secrets, and
 * everything else that comes from a variable or a secret file.
 */
export function registerSecrets(
  secrets: Secrets,
  path: readonly string[],
  text: string,
  inserted: readonly string[],
): void {
  const key = keyOf(path);
  if (isSecretName(key) || path.at(-2) === "headers") secrets.add(text);
  if (SECRET_URLS.has(key) && URL.canParse(text)) addWhole(secrets, new URL(text));
  if (text.includes("://")) {
    secrets.addFromUrl(text);
    // In a valid URL, host, port and database are not secret. In an invalid one anything may be.
    if (URL.canParse(text)) return;
  }
  if (!PUBLIC_NAMES.has(key)) for (const value of inserted) secrets.add(value);
}

function keyOf(path: readonly string[]): string {
  return path.findLast((name) => !/^\d+$/.test(name)) ?? "";
}

/** Also without host and user, as the URL appears in a request line. */
function addWhole(secrets: Secrets, { href, pathname, search }: URL): void {
  for (const part of [href, `${pathname}${search}`, pathname]) if (part.length > 1) secrets.add(part);
}
