import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.opensearch.common.settings.Settings;
import org.opensearch.index.reindex.ReindexPlugin;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.painless.PainlessPlugin;
import org.opensearch.transport.Netty4Plugin;

/** OpenSearch 2 in one process, from the published jars. */
public final class OpenSearchNode extends Node {
  private OpenSearchNode(Settings settings, Path config) {
    super(
        InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), config, () -> "millrace"),
        List.of(Netty4Plugin.class, ReindexPlugin.class, PainlessPlugin.class),
        true);
  }

  public static void main(String[] arguments) throws Exception {
    NodeSettings.run(new OpenSearchNode(NodeSettings.of(arguments), Path.of(arguments[0], "config")));
  }
}
