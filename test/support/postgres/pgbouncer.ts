/** PgBouncer in front of a Postgres, from Debian's packages. */
import { writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { debianAvailability, type DebianRecipe, installDebian } from "../../../scripts/services/packages/debian.ts";
import { printProgress } from "../../../scripts/services/packages/progress.ts";
import { startGuarded } from "../../../scripts/services/processes/guarded.ts";
import { freePort } from "../../../scripts/services/processes/port.ts";
import { waitUntilReady } from "../../../scripts/services/processes/ready.ts";
import { ownFolder, temporaryHome, unprivilegedUser } from "../../../scripts/services/processes/run-user.ts";
import type { RunningService } from "../../../scripts/services/service.ts";

const RECIPE: DebianRecipe = {
  what: "PgBouncer",
  version: "of this release",
  suite: "own",
  packages: ["pgbouncer", "libpam0g", "libaudit1", "libcap-ng0"],
  megabytes: 10,
};

/** Why there is none; null: it can be started. */
export async function lacksPgBouncer(): Promise<string | null> {
  const found = await debianAvailability(RECIPE);
  return found.kind === "unavailable" ? found.reason : null;
}

/** `url`: of the server, with the role that all sessions get. */
export async function startPgBouncer(url: string, settings: string): Promise<RunningService> {
  const { hostname, port: serverPort, username } = new URL(url);
  const program = (await installDebian(RECIPE, printProgress)).run("usr/sbin/pgbouncer", "pgbouncer");
  // It refuses to run as root.
  const user = unprivilegedUser();
  const home = await temporaryHome("pgbouncer", user);
  const port = await freePort();
  const host = "127.0.0.1";
  const file = join(home, "pgbouncer.ini");
  return await startGuarded({
    name: "pgbouncer",
    url: `postgres://${username}@${host}:${port}`,
    host,
    port,
    dataDir: join(home, "data"),
    removeDirs: [home],
    process: {
      command: program.command,
      args: [...program.args, file],
      env: { LC_ALL: "C.UTF-8" },
      cwd: home,
      logPath: join(home, "server.log"),
      user,
    },
    stopSteps: [{ signal: "SIGTERM", waitMs: 5_000 }],
    endSteps: [],
    prepare: async () => {
      await ownFolder(join(home, "data"), user);
      await writeFile(
        file,
        `[databases]\n* = host=${hostname} port=${serverPort} user=${username}\n[pgbouncer]\nlisten_addr = ${host}\nlisten_port = ${port}\nunix_socket_dir =\nauth_type = any\n${settings}\n`,
      );
    },
    ready: (signal) => waitUntilReady(() => accepts(host, port), signal),
  });
}

function accepts(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, host, () => {
      socket.destroy();
      resolve();
    });
    socket.on("error", reject);
  });
}
