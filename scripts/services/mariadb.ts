/** MariaDB, from the machine's own release of Debian. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { mysqlServer } from "./mysql-server.ts";
import { versions } from "./versions.ts";

const { image, suite } = versions.mariadb;

/** What mariadb-install-db feeds to a bootstrapping server, in this order. */
const SYSTEM_TABLES = [
  "mysql_system_tables.sql",
  "mysql_performance_tables.sql",
  "mysql_system_tables_data.sql",
  "fill_help_tables.sql",
  "maria_add_gis_sp_bootstrap.sql",
];
const ACCOUNT = `INSERT INTO mysql.global_priv VALUES ('%', 'root', '{"access":18446744073709551615}');\n`;

export const mariadb = mysqlServer({
  name: "mariadb",
  variable: "MILLRACE_TEST_MARIADB_URL",
  image,
  containerEnvironment: { MARIADB_ALLOW_EMPTY_ROOT_PASSWORD: "yes" },
  recipe: {
    what: "mariadb",
    version: "of this release",
    suite,
    packages: ["mariadb-server-core"],
    megabytes: 20,
  },
  program: "usr/sbin/mariadbd",
  settings: { "binlog-format": "ROW", "gtid-strict-mode": "ON", "log-slave-updates": "ON" },
  nativeSettings: { "innodb-log-file-size": "32M" },
  places: (root) => ({
    basedir: join(root, "usr"),
    "plugin-dir": join(root, "usr/lib/mysql/plugin"),
    "lc-messages-dir": join(root, "usr/share/mysql"),
    "character-sets-dir": join(root, "usr/share/mysql/charsets"),
  }),
  async initialise({ root, dataDir, run }) {
    const texts = await Promise.all(SYSTEM_TABLES.map((file) => readFile(join(root, "usr/share/mysql", file), "utf8")));
    const file = join(dataDir, "..", "bootstrap.sql");
    await writeFile(file, ["create database mysql;\nuse mysql;\n", ...texts, ACCOUNT].join("\n"));
    await run(["--bootstrap", "--skip-log-bin", "--max-allowed-packet=8M"], file);
  },
});
