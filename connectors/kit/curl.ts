/** A command that asks a server which speaks HTTP; curl asks for the password of a login. */
import { shellWord } from "../../src/core/shell-word.ts";

/** `path` begins with a slash. */
export function curlOf(address: string, path = "/"): string {
  const { username, protocol, host } = new URL(address);
  const login = username === "" ? "" : `-u ${shellWord(decodeURIComponent(username))} `;
  return `curl ${login}${shellWord(`${protocol}//${host}${path}`)}`;
}
