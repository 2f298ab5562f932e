import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.opensearch.Version;
import org.opensearch.common.settings.Settings;
import org.opensearch.index.reindex.ReindexModulePlugin;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.painless.PainlessModulePlugin;
import org.opensearch.plugins.PluginInfo;
import org.opensearch.transport.Netty4ModulePlugin;

/** OpenSearch 3 in one process, from the published jars. */
public final class OpenSearchNode extends Node {
  private OpenSearchNode(Settings settings, Path config) {
    super(InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), config, () -> "millrace"), plugins(), true);
  }

  private static List<PluginInfo> plugins() {
    return Stream.of(Netty4ModulePlugin.class, ReindexModulePlugin.class, PainlessModulePlugin.class)
        .map(Class::getName)
        .map(name -> new PluginInfo(name, "", "NA", Version.CURRENT, "21", name, null, List.of(), false))
        .toList();
  }

  public static void main(String[] arguments) throws Exception {
    NodeSettings.run(new OpenSearchNode(NodeSettings.of(arguments), Path.of(arguments[0], "config")));
  }
}
