/**
 * What a full disk is called where a server tells it. Its folder is asked at each login, because a server without room may
 * answer nothing, and another one may have taken its place. No server tells how much room it has: that is known where it runs
 * on this machine.
 */
import { join } from "node:path";
import { freeBytes, isHere, roomFor, roomOfServer } from "../core/disk-room.ts";
import { serverAt } from "../core/system-errors.ts";

interface ServerAddress {
  readonly host: string;
  readonly port: number;
}

/** What the server says of itself. */
interface Told {
  /** Null for a role without pg_read_all_settings. */
  readonly folder: string | null;
  readonly started: string;
}

const servers = new Map<string, Told & { readonly host: string }>();

/** Of the log: a server that can't make its next file ends. */
const FILE_BYTES = 16 * 1024 ** 2;

export const DATA_FOLDER_SQL = `(SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory') AS folder,
  extract(epoch FROM pg_catalog.pg_postmaster_start_time())::text AS started`;

/** A role that is not told its folder may know it of another one, as long as this is the same server. */
export function learnFolder({ host, port }: ServerAddress, told: Told): void {
  const server = serverAt(host, port);
  if (told.folder !== null || servers.get(server)?.started !== told.started) servers.set(server, { ...told, host });
}

/** Why nothing listens at `server`, as far as its disk shows it. */
export function endedFix(server: string): string | undefined {
  const { host = "", folder = null } = servers.get(server) ?? {};
  if (folder === null || !isHere(host, folder) || (freeBytes(folder) ?? FILE_BYTES) >= FILE_BYTES) return undefined;
  return `Make room on the disk of ${roomFor(folder)}, and start the server at ${server}: it ends where its log can't grow. Millrace goes on by itself.`;
}

/** `text`: the server's message, which quotes the file that could not grow. */
export function roomFix(address: ServerAddress | undefined, text: string): string {
  const folder = address === undefined ? null : (servers.get(serverAt(address.host, address.port))?.folder ?? null);
  const file = /"((?:base|global|pg_\w+)\/[\w./-]+)"/.exec(text)?.[1];
  const where =
    address === undefined || folder === null
      ? `the server's data directory${file === undefined ? "" : ` (its file ${file} can't grow)`}: SHOW data_directory names it to a role of pg_read_all_settings`
      : roomOfServer(address.host, file === undefined ? folder : join(folder, file));
  return `Make room on the disk of ${where}. Millrace goes on by itself.`;
}
