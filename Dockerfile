# Terrace in a container. The build compiles RocksDB, which takes a quarter of an hour on two cores.
#
#     docker build -t terrace .
#     docker run -d -p 6379:6379 -v terrace-data:/data terrace --requirepass "something long that nobody guesses"
#
# Clients of a container come from other addresses, so without a password protected mode refuses them. What follows the
# image's name are directives. docs/operating.md says more.

FROM rust:1.92-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ make libclang-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked

FROM debian:bookworm-slim
# redis-cli is for the health check, and for whoever looks in.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libstdc++6 redis-tools \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin terrace \
    && install -d -o terrace -g terrace -m 700 /data
COPY --from=build /src/target/release/terrace /usr/local/bin/terrace
USER terrace
VOLUME /data
WORKDIR /data
EXPOSE 6379
# A server that asks for a password is well, too.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD redis-cli ping | grep -Eq 'PONG|NOAUTH'
ENTRYPOINT ["terrace", "--dir", "/data", "--bind", "*"]
