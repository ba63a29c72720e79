# The page and the service on a CPU, without torch. Not run where it was written: no container engine there.
#     docker build -t bonefrac . && docker run --rm -p 127.0.0.1:8000:8000 bonefrac
FROM python:3.12-slim AS build
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir --prefix=/install '.[app,serve]'

FROM python:3.12-slim
COPY --from=build /install /usr/local
RUN useradd --create-home bonefrac
USER bonefrac
WORKDIR /home/bonefrac
EXPOSE 8000 8501
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["bonefrac"]
CMD ["serve", "--host", "0.0.0.0"]
