import java.util.List;
import org.elasticsearch.Build;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.rest.BaseRestHandler;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestStatus;

/** Answers GET / as Elasticsearch does; its own module for that is not published. */
final class RootHandler extends BaseRestHandler {
  @Override
  public String getName() {
    return "millrace_root";
  }

  @Override
  public List<Route> routes() {
    return List.of(new Route(RestRequest.Method.GET, "/"), new Route(RestRequest.Method.HEAD, "/"));
  }

  @Override
  protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) {
    String body = """
        {"name":"millrace","cluster_name":"millrace","version":{"number":"%s","build_flavor":"default"},\
        "tagline":"You Know, for Search"}
        """.formatted(Build.current().version());
    return channel -> channel.sendResponse(new RestResponse(RestStatus.OK, "application/json", body));
  }
}
