/** MySQL, with GTIDs on. */
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { mysqlServer } from "./mysql-server.ts";
import { mysqlLine } from "./mysql-version.ts";

/** One statement a line: what the server reads at its first start knows no others. */
const ACCOUNT = "CREATE USER 'root'@'%';\nGRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION;\n";

export const mysql = mysqlServer({
  name: "mysql",
  variable: "MILLRACE_TEST_MYSQL_URL",
  get image() {
    return mysqlLine().image;
  },
  containerEnvironment: { MYSQL_ALLOW_EMPTY_PASSWORD: "yes" },
  get recipe() {
    const { suite, version } = mysqlLine();
    if (suite === undefined) return { missing: `Debian has no MySQL ${version}: it is had as a container alone` };
    return {
      what: "mysql",
      version: `of Debian ${suite}`,
      suite,
      packages: ["mysql-server-core"],
      megabytes: 50,
    };
  },
  program: "usr/sbin/mysqld",
  settings: { "gtid-mode": "ON", "enforce-gtid-consistency": "ON" },
  nativeSettings: { mysqlx: "OFF", "innodb-redo-log-capacity": "32M" },
  places: (root) => ({
    basedir: join(root, "usr"),
    "lc-messages-dir": join(root, "usr/share/mysql"),
    "character-sets-dir": join(root, "usr/share/mysql/charsets"),
  }),
  async initialise({ dataDir, run }) {
    const file = join(dataDir, "..", "account.sql");
    await writeFile(file, ACCOUNT);
    await run(["--initialize-insecure", "--skip-log-bin", `--init-file=${file}`]);
    // Each copy is a server of its own.
    await rm(join(dataDir, "auto.cnf"), { force: true });
  },
});
