/** Servers of one process and one port: each gets a home of its own, and runs under a guard. */
import { join } from "node:path";
import type { RunningService } from "../service.ts";
import { type GuardedSpec, startGuarded } from "./guarded.ts";
import { freePort } from "./port.ts";
import { waitUntilReady } from "./ready.ts";
import { ownFolder, temporaryHome } from "./run-user.ts";

/** Where a server runs. */
export interface Place {
  /** Its working folder, which is deleted at the end. */
  readonly home: string;
  /** Inside `home`; it exists before the server starts. */
  readonly dataDir: string;
  readonly port: number;
  readonly url: string;
}

export interface OnePortServer {
  readonly name: string;
  /** How its address begins. Default: http. */
  readonly scheme?: string;
  /** How its address ends. Default: nothing. */
  readonly path?: string;
  readonly command: string;
  args(place: Place): readonly string[];
  env(place: Place): Readonly<Record<string, string>>;
  /** Fills its folders before the first start. */
  prepare?(place: Place): Promise<void>;
  /** Rejects while it is not ready. */
  answers(url: string): Promise<void>;
  /** Its data stays when it has ended. Default: false. */
  readonly keepData?: boolean | undefined;
}

/** An orderly shutdown. At the end a server is killed outright: it leaves nothing outside its home. */
const STOPS: Pick<GuardedSpec, "stopSteps" | "endSteps"> = {
  stopSteps: [{ signal: "SIGTERM", waitMs: 10_000 }],
  endSteps: [],
};

export async function startOnePort(server: OnePortServer): Promise<RunningService> {
  const { name, scheme = "http", path = "", command, keepData = false } = server;
  const home = await temporaryHome(name, undefined);
  const port = await freePort();
  const host = "127.0.0.1";
  const place: Place = { home, dataDir: join(home, "data"), port, url: `${scheme}://${host}:${port}${path}` };
  const { dataDir, url } = place;
  return startGuarded({
    name,
    url,
    host,
    port,
    dataDir,
    removeDirs: keepData ? [] : [home],
    process: {
      command,
      args: server.args(place),
      env: { LC_ALL: "C.UTF-8", TZ: "UTC", ...server.env(place) },
      cwd: home,
      logPath: join(home, "server.log"),
      user: undefined,
    },
    ...STOPS,
    prepare: async () => {
      await ownFolder(dataDir, undefined);
      await server.prepare?.(place);
    },
    ready: (signal) => waitUntilReady(() => server.answers(url), signal),
  });
}
