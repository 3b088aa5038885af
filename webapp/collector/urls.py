"""Which address is answered by which view. /healthz is answered before these, by crashes.health."""

from django.urls import path

from crashes import views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("submit", views.submit, name="submit"),
]
