import java.nio.file.Path;
import org.opensearch.common.logging.LogConfigurator;
import org.opensearch.common.settings.Settings;
import org.opensearch.node.Node;

/** What both lines of OpenSearch have alike. Arguments: home folder, http port, transport port. */
final class NodeSettings {
  private NodeSettings() {}

  static Settings of(String[] arguments) {
    Path home = Path.of(arguments[0]);
    LogConfigurator.configureWithoutConfig(Settings.builder().put("logger.level", "WARN").build());
    return Settings.builder()
        .put("path.home", home.toString())
        .put("path.data", home.resolve("data").toString())
        .put("path.logs", home.resolve("logs").toString())
        .put("cluster.name", "millrace")
        .put("node.name", "millrace")
        .put("network.host", "127.0.0.1")
        .put("http.port", arguments[1])
        .put("transport.port", arguments[2])
        .put("discovery.type", "single-node")
        .put("transport.type", "netty4")
        .put("http.type", "netty4")
        // A laptop's disk is often fuller than a server's may be.
        .put("cluster.routing.allocation.disk.threshold_enabled", false)
        // Else a small heap breaks the circuit under bulk load, long before it is full.
        .put("indices.breaker.total.use_real_memory", false)
        .build();
  }

  static void run(Node node) throws Exception {
    Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node)));
    node.start();
    Thread.currentThread().join();
  }

  private static void close(Node node) {
    try {
      node.close();
    } catch (java.io.IOException failure) {
      failure.printStackTrace();
    }
  }
}
