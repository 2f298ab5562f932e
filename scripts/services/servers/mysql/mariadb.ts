/** MariaDB from the machine's own Debian release, or another line of it from another release. */
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { mysqlServer } from "./mysql-server.ts";
import { mariadbLine } from "./mariadb-version.ts";

/** The folder of its own files; in newer packages it has MariaDB's name. */
function shared(root: string): string {
  const own = join(root, "usr/share/mariadb");
  return existsSync(join(own, "charsets")) ? own : join(root, "usr/share/mysql");
}

/** The files that mariadb-install-db feeds to a bootstrapping server, in this order. */
const SYSTEM_TABLES = [
  "mysql_system_tables.sql",
  "mysql_performance_tables.sql",
  "mysql_system_tables_data.sql",
  "fill_help_tables.sql",
  "maria_add_gis_sp_bootstrap.sql",
];
const ACCOUNT = `INSERT INTO mysql.global_priv VALUES ('%', 'root', '{"access":18446744073709551615}');\n`;

/** In newer versions these files have the server's name. */
function systemFile(folder: string, name: string): string {
  const own = join(folder, name.replace(/^mysql_/, "mariadb_"));
  return existsSync(own) ? own : join(folder, name);
}

export const mariadb = mysqlServer({
  name: "mariadb",
  variable: "MILLRACE_TEST_MARIADB_URL",
  get image() {
    return mariadbLine().image;
  },
  containerEnvironment: { MARIADB_ALLOW_EMPTY_ROOT_PASSWORD: "yes" },
  get recipe() {
    const { server, suite, version } = mariadbLine();
    return {
      what: "mariadb",
      version: suite === "own" ? "of this release" : version,
      suite,
      packages: [server],
      megabytes: 20,
    };
  },
  program: "usr/sbin/mariadbd",
  settings: { "binlog-format": "ROW", "gtid-strict-mode": "ON", "log-slave-updates": "ON" },
  nativeSettings: { "innodb-log-file-size": "32M" },
  places: (root) => ({
    basedir: join(root, "usr"),
    "plugin-dir": join(root, "usr/lib/mysql/plugin"),
    "lc-messages-dir": shared(root),
    "character-sets-dir": join(shared(root), "charsets"),
  }),
  async initialise({ root, dataDir, run }) {
    const texts = await Promise.all(SYSTEM_TABLES.map((file) => readFile(systemFile(shared(root), file), "utf8")));
    const file = join(dataDir, "..", "bootstrap.sql");
    await writeFile(file, ["create database mysql;\nuse mysql;\n", ...texts, ACCOUNT].join("\n"));
    await run(["--bootstrap", "--skip-log-bin", "--max-allowed-packet=8M"], file);
  },
});
