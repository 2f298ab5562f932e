import { basename, dirname } from "node:path";
import type { StateAddress } from "../../core/contracts/connector.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import type { SqliteOptions } from "../sqlite/open.ts";
import { Link } from "./link.ts";
import { migrate, verifyThere } from "./migrate.ts";
import { PostgresState } from "./store.ts";

/**
 * `url` may end in `#` and a local path that stands for the state, two folders below the configuration's. Its last part
 * is the name if none is given.
 */
export async function openPostgres({ url, freshPassword }: StateAddress, options: SqliteOptions): Promise<StateStore> {
  const [address = "", localPath = ""] = url.split("#", 2);
  const name = options.name ?? basename(localPath, ".db");
  const link = new Link({ url: address, freshPassword }, dirname(dirname(localPath)));
  const readOnly = options.readOnly ?? false;
  try {
    if (readOnly) await verifyThere(link, name);
    else await migrate(link, name);
    return new PostgresState(link, name, readOnly).store();
  } catch (error) {
    await link.close().catch(() => {
      // The earlier error says why.
    });
    throw error;
  }
}
