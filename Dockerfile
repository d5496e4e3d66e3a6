# The relay in a container: an ordinary user, one volume, configuration by file or by environment (docs/operating.md).
#   docker build -t srs-relay .   &&   docker run --rm srs-relay demo

FROM docker.io/library/python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/srs-relay
COPY pyproject.toml README.md LICENSE ./
COPY man man
COPY relay relay
RUN /opt/srs-relay/bin/pip install --no-cache-dir --disable-pip-version-check '.[postgresql]' \
    && /opt/srs-relay/bin/pip uninstall --yes --quiet pip

FROM docker.io/library/python:3.13-slim
LABEL org.opencontainers.image.title="srs-relay" \
      org.opencontainers.image.description="A forwarding SMTP relay that keeps SPF, DKIM and bounces intact" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --system --gid 2525 srs-relay \
    && useradd --system --uid 2525 --gid srs-relay --home-dir /var/lib/srs-relay --shell /usr/sbin/nologin srs-relay \
    && install --directory --owner srs-relay --group srs-relay --mode 700 /var/lib/srs-relay
COPY --from=build /opt/srs-relay /opt/srs-relay
# The build fails on a Python that is not optimised (docs/performance.md).
RUN ["/opt/srs-relay/bin/python", "-c", "\
import sys, sysconfig; \
from relay.process.python_build import slow_because; \
sys.exit(slow_because(sysconfig.get_config_vars()) or 0)"]

# /healthz answers where the health check asks. It wins over [http] of a file.
ENV PATH=/opt/srs-relay/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    RELAY_HTTP__ADDRESS=127.0.0.1:8025

# Queue, secrets and keys; relative paths of a configuration by environment start here.
VOLUME /var/lib/srs-relay
WORKDIR /var/lib/srs-relay
USER 2525:2525
EXPOSE 2525
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", "\
import os, urllib.request; \
port = os.environ['RELAY_HTTP__ADDRESS'].rpartition(':')[2]; \
urllib.request.urlopen(f'http://127.0.0.1:{port}/healthz', timeout=4)"]

ENTRYPOINT ["srs-relay"]
CMD ["serve"]
