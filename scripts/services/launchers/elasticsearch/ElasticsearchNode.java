import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginBundle;
import org.elasticsearch.plugins.PluginsLoader;

/** Elasticsearch in one process, from the published jars. Arguments: home folder, http port, transport port. */
public final class ElasticsearchNode {
  public static void main(String[] arguments) throws Exception {
    Path home = Path.of(arguments[0]);
    LogConfigurator.configureWithoutConfig(Settings.builder().put("logger.level", "WARN").build());
    Settings settings = Settings.builder()
        .put("path.home", home.toString())
        .put("path.data", home.resolve("data").toString())
        .put("path.logs", home.resolve("logs").toString())
        .put("cluster.name", "millrace")
        .put("node.name", "millrace")
        .put("network.host", "127.0.0.1")
        .put("http.port", arguments[1])
        .put("transport.port", arguments[2])
        .put("discovery.type", "single-node")
        // A laptop's disk is often fuller than a server's may be.
        .put("cluster.routing.allocation.disk.threshold_enabled", false)
        // Else a small heap breaks the circuit under bulk load, long before it is full.
        .put("indices.breaker.total.use_real_memory", false)
        .build();
    Environment environment =
        InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), home.resolve("config"), () -> "millrace");
    PluginsLoader plugins = PluginsLoader.createPluginsLoader(
        bundles("loadModulesBundles", home.resolve("modules")),
        bundles("loadPluginsBundles", home.resolve("plugins")),
        Map.of());
    Node node = new Node(environment, plugins);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node)));
    node.start();
    Thread.currentThread().join();
  }

  /** The method takes a path in line 8, and a path and a flag in line 9. */
  @SuppressWarnings("unchecked")
  private static Set<PluginBundle> bundles(String method, Path folder) throws ReflectiveOperationException {
    for (var candidate : PluginsLoader.class.getMethods()) {
      if (!candidate.getName().equals(method)) continue;
      boolean isLine8 = candidate.getParameterCount() == 1;
      return (Set<PluginBundle>) (isLine8 ? candidate.invoke(null, folder) : candidate.invoke(null, folder, false));
    }
    throw new NoSuchMethodException(method);
  }

  private static void close(Node node) {
    try {
      node.close();
    } catch (java.io.IOException failure) {
      failure.printStackTrace();
    }
  }
}
