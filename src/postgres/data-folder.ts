/**
 * What a full disk is called where a server tells it. Its folder is asked at each login, because a server without room may
 * answer nothing, and another one may have taken its place. No server tells how much room it has: that is known where it runs
 * on this machine.
 */
import { join } from "node:path";
import { roomOfServer } from "../core/disk-room.ts";
import { serverAt } from "../core/system-errors.ts";

interface ServerAddress {
  readonly host: string;
  readonly port: number;
}

const folders = new Map<string, string>();

/** Null for a role without pg_read_all_settings. */
export const DATA_FOLDER_SQL = "(SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory')";

/** Null: this role is not told; another one may have been. */
export function learnFolder({ host, port }: ServerAddress, folder: string | null): void {
  if (folder !== null) folders.set(serverAt(host, port), folder);
}

/** `text`: the server's message, which quotes the file that could not grow. */
export function roomFix(address: ServerAddress | undefined, text: string): string {
  const folder = address === undefined ? undefined : folders.get(serverAt(address.host, address.port));
  const file = /"((?:base|global|pg_\w+)\/[\w./-]+)"/.exec(text)?.[1];
  const where =
    address === undefined || folder === undefined
      ? `the server's data directory${file === undefined ? "" : ` (its file ${file} can't grow)`}: SHOW data_directory names it to a role of pg_read_all_settings`
      : roomOfServer(address.host, file === undefined ? folder : join(folder, file));
  return `Make room on the disk of ${where}. Millrace goes on by itself.`;
}
