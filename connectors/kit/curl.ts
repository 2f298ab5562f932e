/** A command that asks a server which speaks HTTP; curl asks for the password of a login. */
import { shellWord } from "../../src/core/shell-word.ts";
import { loginIn } from "../../src/tls/url-parts.ts";

/** `path` begins with a slash. */
export function curlOf(address: string, path = "/"): string {
  const { protocol, host } = new URL(address);
  const { username } = loginIn(address);
  const login = username === "" ? "" : `-u ${shellWord(username)} `;
  return `curl ${login}${shellWord(`${protocol}//${host}${path}`)}`;
}
